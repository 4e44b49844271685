-- expand: a map knows its list: from now on the stage is suspended, and its items run.
-- Their literals were written before, see items.lua.

-- {…, how many items, how many of them must complete, how many may run at once or 0, their priority}
function apply.expand(view, index, record, outcome)
  record[STATE], record[ROUTE], record[PRIORITY] = SUSPENDED, string.gsub(record[ROUTE], '!$', ''), outcome[9]
  keep(view, index, record)
  emit(view, 'suspended', index, record[ATTEMPT], outcome[6] .. ' items')
  open_map(view, index, record, {outcome[6], 0, 0, 0, 0, outcome[7], outcome[8], now, {}})
end
