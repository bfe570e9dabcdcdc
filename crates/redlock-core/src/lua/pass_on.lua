-- Gives the turn at a line to the first in it that still listens, and tells it; 1 if there is one, otherwise 0.
-- Waiting is a hint: no release fails for it, and nothing is tried that would fill the log of what is not permitted.
local function pass_on(line)
  if redis.acl_check_cmd and not redis.acl_check_cmd('LPOP', line) then
    return 0
  end
  local next = redis.pcall('LPOP', line)
  while type(next) == 'string' do
    -- What begins with a number is a turn that is over.
    local channel, ticket = string.match(next, '^(redlock:wake:%S+) (%d+)$')
    local told = channel and redis.pcall('PUBLISH', channel, ticket)
    if type(told) == 'number' and told > 0 then
      local time = redis.call('TIME')
      redis.pcall('LPUSH', line, time[1] * 1000 + math.floor(time[2] / 1000) .. ' ' .. next)
      return 1
    end
    next = redis.pcall('LPOP', line)
  end
  return 0
end
