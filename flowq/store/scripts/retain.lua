-- retain: how long ended flows are kept, in milliseconds: when completed, failed, cancelled; and those of some plans, where these
-- say it themselves: {completed, failed, cancelled, {[plan digest] = {completed, failed, cancelled}, …} or nothing}.
local retention_ms, retention_of = {c = 0, f = 0, k = 0}, {}

local function retain(retention)
  local function by_status(lengths) return {[COMPLETED] = lengths[1], [FAILED] = lengths[2], [CANCELLED] = lengths[3]} end
  retention_ms = by_status(retention)
  for plan, lengths in pairs(retention[4] or {}) do retention_of[plan] = by_status(lengths) end
end

-- The time to live of a flow that has ended, for when no pruner runs: the pruner deletes earlier. Hooks stay as long as their flow may.
local function kept_ms(view, is_of_hooks)
  local lengths = retention_of[view.plan] or retention_ms
  if is_of_hooks then return math.max(lengths[COMPLETED], lengths[FAILED], lengths[CANCELLED]) end
  return lengths[view.head[STATUS]]
end
