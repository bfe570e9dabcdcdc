-- Tells the first in line that it is the first.
local function tell_first(key)
  pcall(function()
    return may_tell() and told(redis.call('LINDEX', line_of(key), 0), ' first')
  end)
end

-- Takes who waits out of the line for a key, and tells who is the first then. With the last of them goes the mark,
-- unless it says whose turn it is.
local function quit(key, who)
  local line = line_of(key)
  local was_first = redis.call('LINDEX', line, 0) == who
  if redis.call('LREM', line, 0, who) == 0 then
    return
  end
  if redis.call('EXISTS', line) == 1 then
    return was_first and tell_first(key)
  end
  if redis.call('GET', mark_of(key)) == '1' then
    redis.call('DEL', mark_of(key))
  end
end

-- The same. If the key is free it passes the turn on, unless it is somebody else's; with one of the same channel, which
-- is of who has stood here before, nothing is done any more if it was of no use.
local function leave(key, who, no_use)
  local whose = turn(key)
  local ours = not whose or whose == who or no_use and address(whose) == address(who)
  quit(key, who)
  if ours and redis.call('PTTL', key) == -2 then
    pass_on(key)
  end
end
