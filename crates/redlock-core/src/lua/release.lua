-- Deletes those keys that carry the value, also when another key is of a wrong type, and passes the turn on to those
-- that wait for them; also at a key that is free already, for what is released is free everywhere.
-- KEYS: the resources.  ARGV: value; "alone" where nothing beside the keys may be touched.
-- Returns four times how many were deleted, one more if somebody has the turn, and two more if only the keys
-- themselves could be deleted.
if gone == 2 then
  return 4 + pass_on(KEYS[1])
end
local deleted, given, alone, failure = 0, 0, 0, nil
for _, key in ipairs(KEYS) do
  local held, marks = redis.pcall('GET', key), nil
  local mark = not ARGV[2] and type(gone) ~= 'table' and mark_of(key)
  if held == ARGV[1] then
    deleted = deleted + 1
    -- Mostly nobody waits: the mark beside the key for which somebody does is deleted with it, and so counted.
    local both = mark and redis.pcall('DEL', key, mark)
    if type(both) == 'number' then
      marks = both - 1
    else
      redis.call('DEL', key)
      alone = not ARGV[2] and 2 or 0
    end
  elseif not held and mark then
    -- Late, or once more: a turn that somebody was given meanwhile stays.
    local known, whose = pcall(turn, key)
    marks = known and not whose and redis.pcall('DEL', mark)
  elseif type(held) == 'table' then
    failure = held
  end
  if marks == 1 and pass_on(key) == 1 then
    given = 1
  end
end
return failure or 4 * deleted + given + alone
