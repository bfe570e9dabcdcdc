-- Deletes those keys that carry the value, also when another key is of a wrong type, and passes the turn on to those
-- that wait for them.
-- KEYS: the resources.  ARGV: value; "alone" where nothing beside the keys may be touched.
-- Returns four times how many were deleted, one more if somebody has the turn, and two more if only the keys
-- themselves could be deleted.
local deleted, turn, alone, failure = 0, 0, 0, nil
for _, key in ipairs(KEYS) do
  local held = redis.pcall('GET', key)
  if held == ARGV[1] then
    -- Mostly nobody waits: the mark beside the key for which somebody does is deleted with it, and so counted.
    local gone = not ARGV[2] and redis.pcall('DEL', key, key .. ':redlock:awaited')
    if type(gone) ~= 'number' then
      redis.call('DEL', key)
      alone = 2
    elseif gone == 2 and pass_on(key) == 1 then
      turn = 1
    end
    deleted = deleted + 1
  elseif type(held) == 'table' and held.err then
    failure = held
  end
end
return failure or 4 * deleted + turn + alone
