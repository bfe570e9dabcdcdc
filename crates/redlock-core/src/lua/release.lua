-- Deletes those keys that carry the value, also when another key is of a wrong type, and passes the turn on to those
-- that wait for them.
-- KEYS: the resources.  ARGV: value.  Returns twice how many were deleted, and one more if somebody has the turn.
local deleted, turn, failure = 0, 0, nil
for _, key in ipairs(KEYS) do
  local held = redis.pcall('GET', key)
  if held == ARGV[1] then
    redis.call('DEL', key)
    deleted = deleted + 1
    if pass_on(key .. ':redlock:line') == 1 then
      turn = 1
    end
  elseif type(held) == 'table' and held.err then
    failure = held
  end
end
return failure or 2 * deleted + turn
