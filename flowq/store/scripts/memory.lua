-- memory: what functions keep from call to call, by the bytes of which it can be made again: nothing is lost with it. Of two generations
-- the older is forgotten when the younger holds `most`, so that a memory holds some twice that at most, in what its user counts.
local MEMORY = {}

function MEMORY.new(most)
  return {young = {}, old = {}, held = 0, most = most}
end

-- nil: it is not known.
function MEMORY.of(memory, bytes)
  return memory.young[bytes] or memory.old[bytes]
end

function MEMORY.forget_older(memory)
  memory.young, memory.old, memory.held = {}, memory.young, 0
end

function MEMORY.keep(memory, bytes, value, size)
  if memory.held >= memory.most then MEMORY.forget_older(memory) end
  memory.young[bytes], memory.held = value, memory.held + size
end

-- What is kept may grow, as the names of fields are found one by one.
function MEMORY.grow(memory, size)
  if memory.held >= memory.most then MEMORY.forget_older(memory) end
  memory.held = memory.held + size
end
