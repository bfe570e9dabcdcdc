-- The channel and the ticket by which a waiter is told; none for what else may be in a line.
local function address(waiter)
  return string.match(waiter, '^(redlock:wake:%S+) (%d+)$')
end

-- Whether this can be done: what is not permitted is not tried, as that would fill the log.
local function may(...)
  local check = redis.acl_check_cmd
  return not check or check(...)
end

-- Gives the turn at a key to the first in line that still listens, and tells it; 1 if there is one, otherwise 0. The
-- mark beside the key says whose turn it is, and lasts for a minute from then on.
-- Waiting is a hint: nothing fails for it.
local function pass_on(key)
  local line = key .. ':redlock:line'
  local done, turn = pcall(function()
    local next = may('LPOP', line) and may('PUBLISH', 'redlock:wake:0', '0') and redis.call('LPOP', line)
    while next do
      local channel, ticket = address(next)
      if channel and redis.call('PUBLISH', channel, ticket) > 0 then
        redis.call('SET', key .. ':redlock:awaited', next, 'PX', 60000)
        return 1
      end
      next = redis.call('LPOP', line)
    end
    return 0
  end)
  return done and turn or 0
end
