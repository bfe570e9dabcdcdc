-- Deletes those keys that carry the value, also when another key is of a wrong type.
-- KEYS: the resources.  ARGV: value.  Returns how many were deleted.
local deleted, failure = 0, nil
for _, key in ipairs(KEYS) do
  local held = redis.pcall('GET', key)
  if held == ARGV[1] then
    deleted = deleted + redis.call('DEL', key)
  elseif type(held) == 'table' and held.err then
    failure = held
  end
end
return failure or deleted
