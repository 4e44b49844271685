-- literals: what a stage gets beside results. It is cut in two where that keeps the flow's hash compact: see flowq/store/literals.py.
local CUT_AT = 64

local function literals_of(view, index)
  local literals = read(view, field('i', index)) or ''
  return #literals == CUT_AT and literals .. (read(view, field('j', index)) or '') or literals
end
