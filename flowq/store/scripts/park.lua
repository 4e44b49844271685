-- park: a process that has got less than it has room for waits for a wake-up.
-- It is woken when one of its routes has more. A set ends after a day, and with it go those who
-- died and were rescued by nobody; who lives parks again within seconds.
local function park(wants, holder)
  for _, want in ipairs(wants) do
    for kind = ROUTES, SUSPECTS do
      for _, route in ipairs(want[kind]) do
        local key = tag .. PARKED_KEY .. route
        if shared('SADD', key, holder) == 1 then redis.call('PEXPIRE', key, INFO_KEPT_MS, 'NX') end
      end
    end
  end
end
