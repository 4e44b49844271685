-- retain: how long ended flows are kept, in milliseconds: when completed, failed, cancelled; and those of some plans, where these
-- say it themselves: {completed, failed, cancelled, {[plan digest] = {completed, failed, cancelled}, …} or nothing}.
local retention_ms, retention_of = {c = 0, f = 0, k = 0}, {}

local function retain(retention)
  local function by_status(lengths) return {[COMPLETED] = lengths[1], [FAILED] = lengths[2], [CANCELLED] = lengths[3]} end
  retention_ms = by_status(retention)
  for plan, lengths in pairs(retention[4] or {}) do retention_of[plan] = by_status(lengths) end
end
