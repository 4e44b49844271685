-- house: whether there is something for the duties of workers: looked at beside an exchange, so that they need not ask for it.
-- {mark of the limits, how many leases ran out, whether something is closing, how many firings are due}. What can't be read counts
-- as something: the duty tells of the damage, and stages go on.
local function look_around()
  local function counted(...)
    local count = redis.pcall(...)
    return type(count) == 'number' and count or 1
  end
  local mark = redis.pcall('GET', tag .. LIMITS_MARK_KEY)
  return {
    type(mark) == 'string' and mark or '',
    counted('ZCOUNT', tag .. HOLDERS_KEY, '-inf', now),
    counted('EXISTS', tag .. CLOSING_KEY),
    counted('ZCOUNT', tag .. FIRINGS_KEY, '-inf', now),
  }
end
