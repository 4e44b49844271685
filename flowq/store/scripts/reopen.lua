-- reopen: a map whose flow is retried by hand goes on: its items that have not completed run again, those that have stay.
-- A map here: {stage, route, priority, numbers of items that run again though they completed, whether the others are spared}
local function reopen(view, map)
  local stage, route, priority, numbers, is_alone = unpack(map)
  local record, group = record_of(view, stage), group_of(view, stage)
  if not record or not group then return end
  put_aside(view, stage, record, view.head[RUN])
  for _, kind in ipairs({'r', 'e'}) do drop(view, field(kind, stage)) end
  emit(view, 'retried', stage, record[ATTEMPT], 'by hand', now)
  for _, number in ipairs(numbers) do
    local index = (stage + 1) * ITEMS + number
    local item = record_of(view, index) or is_alone and new_record(now, '', 0, false)
    if item then
      if item[STATE] == COMPLETED then
        group[DONE] = group[DONE] - 1
      elseif not read(view, field('r', index)) then
        -- In this run it had no result: not the one that it may have now.
        write(view, field('r', index) .. '.' .. view.head[RUN], '')
      end
      reset_item(view, index, item, view.head[RUN])
      emit(view, 'retried', index, item[ATTEMPT], 'by hand', now)
    end
  end
  record[STATE], record[ROUTE], record[PRIORITY], record[READY_AT], record[WAITED] = SUSPENDED, route, priority, now, 0
  keep(view, stage, record)
  view.head[ACTIVE] = view.head[ACTIVE] + 1
  local count, stamp, spared = group[COUNT], math.max(now, group[STAMP] + 1), is_alone and group[COUNT] - group[DONE] - #numbers or 0
  open_map(view, stage, record, {count, is_alone and count or 0, group[DONE], 0, 0, group[NEED], group[CAP], stamp, {}, spared})
  for _, number in ipairs(is_alone and numbers or {}) do
    push(view, route, priority, (stage + 1) * ITEMS + number .. '@' .. stamp .. ':' .. view.id)
  end
end
