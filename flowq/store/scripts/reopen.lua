-- reopen: a map whose flow is retried by hand goes on: its items that have not completed run again, those that have stay.
-- A map here: {stage, route, priority, numbers of items that run again though they completed}
local function reopen(view, map)
  local stage, route, priority, numbers = unpack(map)
  local record, group = record_of(view, stage), group_of(view, stage)
  if not record or not group then return end
  put_aside(view, stage, record, view.head[RUN])
  for _, kind in ipairs({'r', 'e'}) do drop(view, field(kind, stage)) end
  emit(view, 'retried', stage, record[ATTEMPT], 'by hand', now)
  for _, number in ipairs(numbers) do
    local index = (stage + 1) * ITEMS + number
    local item = record_of(view, index)
    if item then
      if item[STATE] == COMPLETED then group[DONE] = group[DONE] - 1 end
      reset_item(view, index, item, view.head[RUN])
      emit(view, 'retried', index, item[ATTEMPT], 'by hand', now)
    end
  end
  record[STATE], record[ROUTE], record[PRIORITY], record[READY_AT], record[WAITED] = SUSPENDED, route, priority, now, 0
  keep(view, stage, record)
  view.head[ACTIVE] = view.head[ACTIVE] + 1
  open_map(view, stage, record, {group[COUNT], 0, group[DONE], 0, 0, group[NEED], group[CAP], math.max(now, group[STAMP] + 1), {}})
end
