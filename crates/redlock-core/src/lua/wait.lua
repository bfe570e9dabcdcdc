-- Stands in line for the first key that exists, or whose turn is somebody else's; in none if there is no such key. Of
-- those who wait for a key that is free the first in line is given the turn.
-- KEYS: the resources.  ARGV: who waits, as the channel and the ticket by which it is told; "first" or "last".
-- Returns -2 if there is nothing to wait for, and -1 if it is the waiter's turn. Otherwise twice the milliseconds for
-- which there is nothing to try, as far as is known, and one more for the first in line: 3001 says that it is the
-- first, and that the lease ends in 1500 ms.
local us = ARGV[1]

-- Longer than anybody waits.
local long = 1e12

-- Whether that is at the front; whoever comes behind others tells the first of them that it is.
local function stand(key, whose)
  local line, mark = line_of(key), mark_of(key)
  -- A key that is taken may be an attempt that fails: a turn lasts all the same, unless nothing has come of it.
  if ARGV[2] == 'first' or not whose then
    redis.call('SET', mark, 1, 'PX', minute)
  end
  -- Before anybody is in it: a line must not stay for ever where this is not permitted.
  redis.call('PEXPIRE', line, minute)
  -- Who stands there keeps its place.
  local before = redis.call('LPOS', line, us)
  if not before and ARGV[2] == 'first' then
    redis.call('LPUSH', line, us)
    before = 0
  elseif not before then
    before = redis.call('RPUSH', line, us) - 1
    if before > 0 then
      tell_first(key)
    end
  end
  if before == 0 then
    redis.call('PEXPIRE', line, minute)
  end
  return before == 0
end

-- The first key for which there is something to wait, for how long, and whose turn it is; otherwise what is to be
-- returned.
local function what_for()
  for _, key in ipairs(KEYS) do
    local left = redis.call('PTTL', key)
    if left ~= -2 then
      local whose = turn(key)
      -- Whose turn it is tries before it stands in line again.
      if whose ~= us then
        return key, left < 0 and long or math.min(left, long), whose
      end
    end
  end
  if ARGV[2] == 'first' then
    return nil, -2
  end
  local answer = -2
  for _, key in ipairs(KEYS) do
    local whose, left = turn(key)
    if not whose and pass_on(key, us) == 1 then
      whose, left = turn(key)
    end
    if whose == us then
      answer = -1
    elseif whose then
      return key, left, whose
    end
  end
  return nil, answer
end

local here, answer, whose = what_for()
for _, key in ipairs(KEYS) do
  if key == here then
    answer = 2 * answer + (stand(key, whose) and 1 or 0)
  elseif here then
    -- In one line alone: a turn in another would be lost, as is the one of which nothing has come.
    leave(key, us, ARGV[2] == 'first')
  else
    quit(key, us)
  end
end
return answer
