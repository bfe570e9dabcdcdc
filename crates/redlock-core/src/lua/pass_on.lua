-- Gives the turn at a key to the first in line that still listens, and tells it; 1 if there is one, otherwise 0.
-- Waiting is a hint: nothing fails for it, and nothing is tried that would fill the log of what is not permitted.
local function pass_on(key)
  local line, check = key .. ':redlock:line', redis.acl_check_cmd

  local function tell(next)
    if check and not check('PUBLISH', 'redlock:wake:0', '0') then
      return 0
    end
    while next do
      -- What begins with a number is a turn that is over.
      local channel, ticket = string.match(next, '^(redlock:wake:%S+) (%d+)$')
      if channel and redis.call('PUBLISH', channel, ticket) > 0 then
        local time = redis.call('TIME')
        local length = redis.call('LPUSH', line, time[1] * 1000 + math.floor(time[2] / 1000) .. ' ' .. next)
        -- Those who wait see to it from time to time that both last.
        if length == 1 then
          redis.call('PEXPIRE', line, 60000)
        end
        redis.call('SET', key .. ':redlock:awaited', 1, 'PX', 60000)
        return 1
      end
      next = redis.call('LPOP', line)
    end
    redis.call('DEL', key .. ':redlock:awaited')
    return 0
  end

  local known, allowed = true, true
  if check then
    known, allowed = pcall(check, 'LPOP', line)
  end
  local next = known and allowed and redis.pcall('LPOP', line)
  if type(next) ~= 'string' then
    return 0
  end
  local done, turn = pcall(tell, next)
  return done and turn or 0
end
