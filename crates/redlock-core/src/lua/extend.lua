-- Restarts the ttl of every key if all of them carry the value; never shortens one, never sets a missing one.
-- KEYS: the resources.  ARGV: value, ttl in milliseconds.  Returns 1 or 0.
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) ~= ARGV[1] then
    return 0
  end
end
local ttl = tonumber(ARGV[2])
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) < ttl then
    redis.call('PEXPIRE', key, ARGV[2])
  end
end
return 1
