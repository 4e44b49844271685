-- hooked: what runs after the end of a flow, which is a flow of its own: that of a flow's first run has the id `flow^end`, that of its
-- third `flow^end3`. The last character of a plan's digest says that there are hooks: '^' for every end, '~' unless it completed.
-- Those that have not been added yet stand with what is closing, as `^run:flow`: whoever ended the flow adds them, or a duty does.
local hooked = {}

-- The flow that a flow of hooks belongs to, and which run of it; nil: it is none of hooks.
local function above_of(id)
  if not string.find(id, '^', 1, true) then return end
  local above, run = string.match(id, '^(.+)%^end(%d*)$')
  return above, tonumber(run) or 1
end

-- A flow has ended: its hooks are to be added.
local function note_end(view)
  local mark = view.plan and string.sub(view.plan, 16)
  if mark == '^' or (mark == '~' and view.head[STATUS] ~= COMPLETED) then
    hooked[#hooked + 1], hooked[#hooked + 2] = 0, '^' .. view.head[RUN] .. ':' .. view.id
  end
end
