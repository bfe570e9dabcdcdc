-- Deletes those keys that carry the value, also when another key is of a wrong type, and gives the turn to the first
-- that waits for one of them and still listens.
-- KEYS: the resources.  ARGV: value.  Returns twice how many were deleted, and one more if somebody has the turn.
local deleted, turn, failure = 0, 0, nil
for _, key in ipairs(KEYS) do
  local held = redis.pcall('GET', key)
  if held == ARGV[1] then
    deleted = deleted + redis.call('DEL', key)
    local line = key .. ':redlock:line'
    -- Waiting is a hint, for which no release may fail, nor fill the server's log of what is not permitted.
    local may = not redis.acl_check_cmd or redis.acl_check_cmd('LPOP', line)
    -- Whose turn it was, if it begins with a number.
    local next = may and redis.pcall('LPOP', line)
    while type(next) == 'string' do
      local channel, ticket = string.match(next, '^(redlock:wake:%S+) (%d+)$')
      local told = channel and redis.pcall('PUBLISH', channel, ticket)
      if type(told) == 'number' and told > 0 then
        local time = redis.call('TIME')
        redis.pcall('LPUSH', line, time[1] * 1000 + math.floor(time[2] / 1000) .. ' ' .. next)
        turn = 1
        break
      end
      next = redis.pcall('LPOP', line)
    end
  elseif type(held) == 'table' and held.err then
    failure = held
  end
end
return failure or 2 * deleted + turn
