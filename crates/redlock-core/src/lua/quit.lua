-- Takes who waits out of the line for a key; with the last of them goes the mark beside the key.
local function quit(key, who)
  local line = key .. ':redlock:line'
  if redis.call('LREM', line, 0, who) > 0 and not redis.call('LINDEX', line, 0) then
    redis.call('DEL', key .. ':redlock:awaited')
  end
end
