-- Sets every key to the value for the ttl, or none of them if any exists.
-- KEYS: the resources.  ARGV: value, ttl in milliseconds.  Returns 1 or 0.
for _, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then
    return 0
  end
end
for _, key in ipairs(KEYS) do
  redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
end
return 1
