-- flow_ends: ends the flows that are over and wakes who waits for them, before anything is claimed: claims find what was resumed.
-- The list of opened flows grows meanwhile.
local function end_flows()
  local position = 1
  while opened[position] do
    local view = opened[position]
    position = position + 1
    end_if_over(view)
    if view.is_ended and not view.is_told then
      view.is_told = true
      wake_parent(view)
    end
  end
end
