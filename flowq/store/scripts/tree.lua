-- tree: flows that stages spawned, beneath the flows of these stages.
-- A spawned flow has the id `<parent>^<name>`; its field `^` says who waits for it: {index of the parent's stage, created_at of the
-- flow at the root of the tree, run and attempt of the parent that began or found it last}. A tree's key lists all flows beneath
-- its root by what their ids have after the root's, so that those beneath any flow stand together; it is named by the root and when that was
-- added, because another flow may have its id later.

-- The id of the flow that spawned this one; false or nil: none did, as of hooks (hooked.lua).
local function parent_of(id)
  return string.find(id, '^', 1, true) and not above_of(id) and string.match(id, '^(.+)%^')
end

local function open_root(id)
  return open_flow(string.match(id, '^[^^]+'))
end

-- What the field `^` of a flow says, or nil.
local function link_of(bytes)
  local link = bytes and unpacked(bytes)
  return link and are(link, {1, 2, 3, 4}, 'number') and link or nil
end

local function tree_of(root)
  return root.id .. '@' .. string.format('%.0f', root.head[CREATED_AT])
end
