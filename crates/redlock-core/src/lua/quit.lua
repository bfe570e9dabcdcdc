-- The mark beside a key for which somebody waits. It says whose turn it is, or 1, and has a plus behind it if the first
-- in line knows that it is the first.
local function mark_of(key)
  return key .. ':redlock:awaited'
end

-- What the mark says, without the plus; and whether it has one.
local function said(key)
  local mark = redis.call('GET', mark_of(key))
  if mark then
    return string.match(mark, '^([^+]*)'), string.match(mark, '%+$') ~= nil
  end
end

-- Takes who waits out of the line for a key. With the last of them goes the mark, unless it says whose turn it is.
local function quit(key, who)
  local line = key .. ':redlock:line'
  if redis.call('LREM', line, 0, who) > 0 then
    local whose = said(key)
    if whose == '1' and redis.call('EXISTS', line) == 0 then
      redis.call('DEL', mark_of(key))
    elseif whose then
      redis.call('SET', mark_of(key), whose, 'KEEPTTL')
    end
  end
end
