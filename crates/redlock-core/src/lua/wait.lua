-- Stands in line for the first key that exists, or whose turn is somebody else's; in none if there is no such key.
-- KEYS: the resources.  ARGV: who waits, as the channel and the ticket by which it is told; "first" or "last"; for how
-- many milliseconds a turn is kept.
-- Returns for how many milliseconds there is nothing to try, -1 if that is not known, or -2 if there is.
local function line_of(key)
  return key .. ':redlock:line'
end

-- When the turn was given, and to whom.
local function turn(line)
  local head = redis.call('LINDEX', line, 0)
  if head then
    return string.match(head, '^(%d+) (.+)$')
  end
end

local function stands(line)
  for _, other in ipairs(redis.call('LRANGE', line, 0, -1)) do
    if other == ARGV[1] then
      return true
    end
  end
end

local function stand(key, left)
  local line = line_of(key)
  if stands(line) then
    -- It keeps its place.
  elseif ARGV[2] == 'first' then
    if turn(line) then
      redis.call('LPOP', line)
    end
    redis.call('LPUSH', line, ARGV[1])
  else
    redis.call('RPUSH', line, ARGV[1])
  end
  local keep = math.max(left, 0) + 60000
  redis.call('PEXPIRE', line, keep)
  redis.call('SET', key .. ':redlock:awaited', 1, 'PX', keep)
end

-- The first key for which there is something to wait, and for how long.
local function what_for()
  for _, key in ipairs(KEYS) do
    local left = redis.call('PTTL', key)
    if left ~= -2 then
      return key, left
    end
  end
  if ARGV[2] == 'first' then
    return nil, -2
  end
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  for _, key in ipairs(KEYS) do
    local given, whose = turn(line_of(key))
    local left = given and tonumber(given) + tonumber(ARGV[3]) - now or 0
    -- A clock that was set back says nothing.
    if left > 0 and left <= tonumber(ARGV[3]) and whose ~= ARGV[1] then
      return key, left
    end
  end
  return nil, -2
end

local here, left = what_for()
for _, key in ipairs(KEYS) do
  if key == here then
    stand(key, left)
  else
    -- In one line alone: a turn in another would be lost.
    quit(key, ARGV[1])
  end
end
return left
