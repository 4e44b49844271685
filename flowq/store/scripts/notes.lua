-- notes: what stages logged and used, beside their progress and outcomes.
-- A note: {flow, index, fence, nonce, position of its outcome in the batch or 0, log or '', amounts {name, number, …} or false, whose}.
-- The log is all that this run has to tell, so a later note of the run takes the place of an earlier one; what runs before it logged is
-- kept beside it, shortened. Amounts count when their outcome is accepted, once: a note that is repeated meets a `replayed` verdict.
local EARLIER_LOG_MAX, AMOUNTS_MAX, METERED_MS, DAY_MS = 8192, 50, 34560000000, 86400000
local metered = {}

local function keep_log(view, index, fence, log)
  local name = field('l', index)
  local packed = read(view, name)
  local known = packed and unpacked(packed) or {fence, '', ''}
  local earlier = known[2]
  if known[1] ~= fence then
    earlier = known[2] .. known[3]
    -- Whole lines only: half a character would make the rest unreadable.
    if #earlier > EARLIER_LOG_MAX then earlier = string.match(string.sub(earlier, -EARLIER_LOG_MAX), '^[^\n]*\n(.*)$') or '' end
  end
  write(view, name, cmsgpack.pack({fence, earlier, log}))
end

-- What an item used is its map's too: a snapshot does not read all items.
local function keep_amounts(view, index, amounts, whose)
  if index >= ITEMS then keep_amounts(view, math.floor(index / ITEMS) - 1, amounts) end
  local name = field('u', index)
  local packed = read(view, name)
  local sums, count = packed and unpacked(packed) or {}, 0
  for _ in pairs(sums) do count = count + 1 end
  for position = 1, #amounts, 2 do
    local what, amount = amounts[position], amounts[position + 1]
    if sums[what] or count < AMOUNTS_MAX then
      if not sums[what] then count = count + 1 end
      sums[what] = (sums[what] or 0) + amount
      if whose then metered[#metered + 1] = {whose .. '|' .. what, amount} end
    end
  end
  write(view, name, cmsgpack.pack(sums))
end

-- `verdicts`: of the outcomes that were not accepted.
local function take_notes(notes, verdicts)
  local refused = {}
  for _, verdict in ipairs(verdicts) do refused[verdict[1] + 1] = true end
  for _, note in ipairs(notes) do
    local flow, index, fence, nonce, position, log, amounts, whose = unpack(note)
    local view = open_flow(flow, {field('', index)})
    local record = view and record_of(view, index)
    if record and record[FENCE] == fence and record[NONCE] == nonce then
      -- What comes with an outcome is the last: an earlier one may come late.
      if log ~= '' and (record[STATE] == RUNNING or position > 0) then keep_log(view, index, fence, log) end
      if amounts and position > 0 and not refused[position] then keep_amounts(view, index, amounts, whose) end
    end
  end
end

-- After the flush. Sums by day, for whoever pays; they need not be exact to the last digit, so a damaged one stops nothing.
local function meter()
  if #metered == 0 then return end
  local key = tag .. METERED_KEY .. math.floor(now / DAY_MS)
  for _, one in ipairs(metered) do redis.pcall('HINCRBYFLOAT', key, one[1], one[2]) end
  redis.call('PEXPIRE', key, METERED_MS)
end
