-- retain: how long ended flows are kept, in milliseconds: when completed, failed, cancelled; and those of some plans, where these
-- say it themselves: {completed, failed, cancelled, how much later a flow goes by itself if nobody has removed it,
-- {[plan digest] = {completed, failed, cancelled}, …} or nothing}.
local retention_ms, retention_of = {c = 0, f = 0, k = 0, by_itself = 0}, {}

local function retain(retention)
  local function by_status(lengths) return {[COMPLETED] = lengths[1], [FAILED] = lengths[2], [CANCELLED] = lengths[3]} end
  retention_ms = by_status(retention)
  retention_ms.by_itself = retention[4]
  for plan, lengths in pairs(retention[5] or {}) do retention_of[plan] = by_status(lengths) end
end
