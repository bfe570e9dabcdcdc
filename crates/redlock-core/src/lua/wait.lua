-- Stands in line for the first key that exists, or whose turn is somebody else's; in none if there is no such key. Of
-- those who wait for a key that is free the first in line is given the turn.
-- KEYS: the resources.  ARGV: who waits, as the channel and the ticket by which it is told; "first" or "last"; for how
-- many milliseconds a turn is kept.
-- Returns -2 if there is nothing to wait for, and -1 if it is the waiter's turn. Otherwise for how many milliseconds
-- there is nothing to try, -1 if that is not known; one more, and twice that; one more for the first in line.

-- Whose turn it is, and for how many milliseconds still.
local function turn(key)
  local whose = said(key)
  if whose and address(whose) then
    local left = redis.call('PTTL', mark_of(key)) - 60000 + tonumber(ARGV[3])
    if left > 0 and left <= tonumber(ARGV[3]) then
      return whose, left
    end
  end
end

-- Whether that is at the front. Who is behind one that does not know yet that it is the first tells it.
local function stand(key, left, taken)
  local line, mark = key .. ':redlock:line', mark_of(key)
  -- Who stands there keeps its place.
  local before = redis.call('LPOS', line, ARGV[1])
  if not before and ARGV[2] == 'first' then
    redis.call('LPUSH', line, ARGV[1])
    before = 0
  elseif not before then
    before = redis.call('RPUSH', line, ARGV[1]) - 1
  end
  local keep = math.max(left, 0) + 60000
  redis.call('PEXPIRE', line, keep)
  if taken then
    local _, knows = said(key)
    if before > 0 and not knows then
      local channel, ticket = address(redis.call('LINDEX', line, 0))
      if channel and may('PUBLISH', channel, ticket) then
        redis.call('PUBLISH', channel, ticket .. ' first')
      end
    end
    -- An attempt that fails takes nobody's turn.
    local whose = turn(key)
    if whose then
      redis.call('SET', mark, whose .. '+', 'KEEPTTL')
    else
      redis.call('SET', mark, '1+', 'PX', keep)
    end
  end
  return before == 0
end

-- The first key for which there is something to wait, for how long, and whether it is taken; otherwise what is to be
-- returned.
local function what_for()
  for _, key in ipairs(KEYS) do
    local left = redis.call('PTTL', key)
    if left ~= -2 then
      -- So long that nobody sees it end.
      return key, math.min(left, 1e12), true
    end
  end
  local answer = -2
  for _, key in ipairs(ARGV[2] == 'last' and KEYS or {}) do
    local whose, left = turn(key)
    if not whose and pass_on(key) == 1 then
      whose, left = turn(key)
    end
    if whose == ARGV[1] then
      answer = -1
    elseif whose then
      return key, left
    end
  end
  return nil, answer
end

local here, left, taken = what_for()
local answer = left
for _, key in ipairs(KEYS) do
  if key ~= here then
    -- In one line alone: a turn in another would be lost.
    quit(key, ARGV[1])
  else
    answer = 2 * (left + 1) + (stand(key, left, taken) and 1 or 0)
  end
end
return answer
