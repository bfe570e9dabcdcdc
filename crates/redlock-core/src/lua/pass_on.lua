-- For how long a line and the mark beside its key last, in milliseconds: those who wait look more often. And a turn.
local minute, moment = 60000, 100

local function line_of(key)
  return key .. ':redlock:line'
end

-- Is there while somebody waits. It says whose turn it is, and lasts for a minute from when that was given; or 1.
local function mark_of(key)
  return key .. ':redlock:awaited'
end

-- What is not permitted is not tried, as that would fill the log.
local function may(...)
  local check = redis.acl_check_cmd
  return not check or check(...)
end

local function may_tell()
  return may('PUBLISH', 'redlock:wake:0', '0')
end

-- The channel and the ticket by which a waiter is told; none for what else may be in a line.
local function address(waiter)
  return string.match(waiter, '^(redlock:wake:%S+) (%d+)$')
end

-- Whose turn it is, and for how many milliseconds still.
local function turn(key)
  local whose = redis.call('GET', mark_of(key))
  if whose and address(whose) then
    local left = redis.call('PTTL', mark_of(key)) - minute + moment
    if left > 0 and left <= moment then
      return whose, left
    end
  end
end

-- Whether that one still listens.
local function told(waiter, what)
  local channel, ticket = address(waiter)
  return channel and redis.call('PUBLISH', channel, ticket .. what) > 0
end

-- Gives the turn at a key to the first in line that still listens, or that is us, and tells it; 1 if there is one,
-- otherwise 0.
-- Waiting is a hint: nothing fails for it.
local function pass_on(key, us)
  local line = line_of(key)
  local done, turn = pcall(function()
    if not (may('LPOP', line) and may_tell()) then
      return 0
    end
    for next in function() return redis.call('LINDEX', line, 0) or nil end do
      local listens = next == us or told(next, '')
      redis.call('LPOP', line)
      if listens then
        redis.call('SET', mark_of(key), next, 'PX', minute)
        return 1
      end
    end
    redis.call('DEL', mark_of(key))
    return 0
  end)
  return done and turn or 0
end
