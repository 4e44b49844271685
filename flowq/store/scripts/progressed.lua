-- progressed: what running stages tell of their progress: {flow, index, fence, nonce, fraction, message}. The latest counts, it takes
-- no number, and a stale one is dropped.
local function progress(reports)
  for _, entry in ipairs(reports) do
    local flow, index, fence, nonce, fraction, message = unpack(entry)
    local view = open_flow(flow, {field('', index)})
    local record = view and record_of(view, index)
    if record and record[STATE] == RUNNING and record[FENCE] == fence and record[NONCE] == nonce then
      write(view, field('g', index), cmsgpack.pack({fraction, message}))
      if record[RAN] == 0 then
        record[RAN] = 1
        keep(view, index, record)
      end
      tell(flow, 0, 'progressed', index, record[ATTEMPT], {message, 0, fraction})
    end
  end
end
