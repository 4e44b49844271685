#!lua flags=allow-oom
-- return: permits of a limit that are needed no more, used or not.
-- Needs      records shared limits windows hunger
-- Called by  Limits.give_back   KEYS 1 the limit's tag    ARGV 1 key  2 holder  3 "unused", or ''  4… permits
-- Replies    "returned"
-- What an unused permit would have counted is taken back: whoever was granted a later time keeps it.
local key, holder, is_unused = ARGV[1], ARGV[2], ARGV[3] == 'unused'
local rule = rules()
for position = 4, #ARGV do
  local permit = ARGV[position]
  local grant_key = tag .. GRANT_KEY .. permit
  local bytes = is_unused and rule and redis.call('GET', grant_key)
  local grant = bytes and unpacked(bytes)
  if grant and grant[1] > now and (grant[3] or '') == rule[VERSION] then
    local rates = rule[RATES]
    local pieces, last = windows_of(key, rule)
    for number, rate in ipairs(rates) do pieces[number] = noted(pieces[number], -grant[2][number], rate[3], grant[1]) end
    if #rates > 0 then keep_windows(key, rates, pieces, last, rule[VERSION]) end
  end
  redis.call('DEL', grant_key)
  leave_line(key, permit)
  take_back(key, permit, holder)
end
if rule and key == '' then kept_for_others(rule[CONCURRENCY] - held(key), '') end
return 'returned'
