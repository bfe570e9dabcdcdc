-- Tells how long ago the server with this identity was first seen, in milliseconds, and remembers it.
-- KEYS: the marker.  ARGV: the server's identity.  Returns 0 for one that was not known.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known, prefix = redis.call('GET', KEYS[1]), ARGV[1] .. ' '
if known and string.sub(known, 1, #prefix) == prefix then
  local age = now - (tonumber(string.sub(known, #prefix + 1)) or now)
  if age >= 0 then
    return age
  end
end
redis.call('SET', KEYS[1], prefix .. string.format('%.0f', now))
return 0
