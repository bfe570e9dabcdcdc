-- Releases many locks of one key each, all by one DEL. What is not simply there is left to a release by itself.
-- KEYS: the keys.  ARGV: the value of the first; "each"; the values of the others.
-- Returns what the release of each returns if all are gone and nobody waits, added up; otherwise for each what its
-- release returns, or nil if it is not done.
if ARGV[2] == 'each' then
  local held = redis.call('MGET', unpack(KEYS))
  local there, marks, count = {}, {}, 0
  for i, key in ipairs(KEYS) do
    if held[i] == ARGV[i > 1 and i + 1 or 1] then
      count = count + 1
      there[count], marks[count] = key, mark_of(key)
    end
  end
  local deleted, awaited = 0, 0
  if count > 0 then
    deleted, awaited = redis.call('DEL', unpack(there)), redis.pcall('DEL', unpack(marks))
  end
  if deleted == #KEYS and awaited == 0 then
    return 4 * deleted
  end
  local answers, gone, alone = {}, {}, type(awaited) ~= 'number'
  for i, key in ipairs(KEYS) do
    -- A key that stands here twice is deleted once.
    answers[i] = not gone[key] and held[i] == ARGV[i > 1 and i + 1 or 1] and
      4 + (alone and 2 or awaited > 0 and pass_on(key) or 0)
    gone[key] = gone[key] or answers[i]
  end
  return answers
end
