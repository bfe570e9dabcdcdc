-- Gives the turn at a line to the first in it that still listens, and tells it; 1 if there is one, otherwise 0.
-- Waiting is a hint: nothing fails for it, and nothing is tried that would fill the log of what is not permitted.
local function pass_on(line)
  local done, turn = pcall(function()
    local may = redis.acl_check_cmd
    if may and not (may('LPOP', line) and may('PUBLISH', 'redlock:wake:0', '0')) then
      return 0
    end
    local next = redis.call('LPOP', line)
    while next do
      -- What begins with a number is a turn that is over.
      local channel, ticket = string.match(next, '^(redlock:wake:%S+) (%d+)$')
      if channel and redis.call('PUBLISH', channel, ticket) > 0 then
        local time = redis.call('TIME')
        redis.call('LPUSH', line, time[1] * 1000 + math.floor(time[2] / 1000) .. ' ' .. next)
        if redis.call('PTTL', line) < 60000 then
          redis.call('PEXPIRE', line, 60000)
        end
        return 1
      end
      next = redis.call('LPOP', line)
    end
    return 0
  end)
  return done and turn or 0
end
