-- Sets every key to the value for the ttl if none of them exists and the fencing token is admitted, which then
-- becomes their fence.
-- KEYS: the resources, then their fences in the same order.
-- ARGV: value, ttl in milliseconds, token, lifetime of the fence in milliseconds or 0 for ever; by how many
-- microseconds the token may be behind this clock, and ahead of it.
-- Returns 1, 0 if a key exists, or else the token that would be admitted, which is negative if a fence asks for it
-- that is ahead of the clock. Numbers are below 2^53, and exact.
local resources = #KEYS / 2
for i = 1, resources do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    return 0
  end
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local token, floor = tonumber(ARGV[3]), now - tonumber(ARGV[5]) - 1
for i = 1, resources do
  local fence = redis.call('GET', KEYS[resources + i]) or 0
  floor = math.max(floor, tonumber(fence))
end
if token <= floor or token > math.max(now + tonumber(ARGV[6]), floor + 1000) then
  return floor < now and now or -(floor + 1)
end
for i = 1, resources do
  if ARGV[4] == '0' then
    redis.call('SET', KEYS[resources + i], ARGV[3])
  else
    redis.call('SET', KEYS[resources + i], ARGV[3], 'PX', ARGV[4])
  end
  redis.call('SET', KEYS[i], ARGV[1], 'PX', ARGV[2])
end
return 1
