-- Synchronize one breaker of one host with its fleet: add the host's counts, return the totals and state of the fleet.
--
-- KEYS   circuit  hash: the fields in FIELDS below, the fleet's thresholds, and the last operation of each host
--        hosts    hash by host: its last report
--        seen     sorted set of hosts by the time of their last report
--        leases   hash by host and stay: permits of the current round
-- ARGV   the report, as JSON: `Report` in messages.py
-- Returns the circuit, as JSON: `Reply` in messages.py
--
-- Times are milliseconds of this server's clock, the only clock that hosts have in common. The script itself makes only
-- those changes of state that are due by time. A host that finds a reason to change the state in the totals of all
-- hosts proposes the change in its next report. The circuit is read with one command and written with one: commands are
-- most of the server's cost.
local circuit, hosts, seen, leases = unpack(KEYS)
local report = cjson.decode(ARGV[1])
local SLICES = 10
local IDLE = 1000 -- age at which an unused permit may be given to another host
local EXPIRE = 60000 -- time between two renewals of the keys' time to live
local MAX = 2 ^ 45 -- largest generation, time, and total of a host
local MAX_COUNT = 1e12 -- largest count of calls, hosts and rounds: JSON has all digits of a sum of several of them
local MAX_LEASES = 10000 -- of a round
local STATES = { CLOSED = true, OPEN = true, HALF_OPEN = true, FORCED_OPEN = true, DISABLED = true, METRICS_ONLY = true }
local LOST = 'the round was lost'
-- An operator's states, with the state that follows when they expire.
local HELD = { FORCED_OPEN = 'OPEN', DISABLED = 'CLOSED', METRICS_ONLY = 'CLOSED' }
local FIELDS = { 'state', 'reason', 'slices', 'generation', 'until', 'duration', 'operator', 'rounds', 'streak',
  'window', 'window_used', 'traffic', 'bad', 'streaks', 'thresholds_version', 'expires', 'leased', 'leased_in', 'lost',
  'operation:' .. report.host }
local TEXTS = 3 -- number of FIELDS that are texts, the first ones; the others are numbers
local LONGEST = { OPEN = report.longest, HALF_OPEN = 86400000 } -- an operator's states: a month
local A_MONTH = 2678400000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function whole(number, max)
  return type(number) == 'number' and number >= 0 and number <= max and number % 1 == 0
end

-- Unpack a list of whole numbers. Return nil if it is missing, of another release, or written by another program.
local function unpacked(packed, length)
  if not packed or packed == '' then return nil end
  local fine, list = pcall(cmsgpack.unpack, packed)
  if not fine or type(list) ~= 'table' or #list ~= length then return nil end
  for _, number in ipairs(list) do
    if not whole(number, MAX) then return nil end
  end
  return list
end

local function unpacked_slices(packed)
  local fine, list = pcall(cmsgpack.unpack, packed)
  list = fine and type(list) == 'table' and #list == 1 and list[1]
  if type(list) ~= 'table' or #list > SLICES then return nil end
  for _, slice in ipairs(list) do
    if type(slice) ~= 'table' or #slice ~= 4 or not whole(slice[1], MAX) then return nil end
    for each = 2, 4 do
      if not whole(slice[each], MAX_COUNT) then return nil end
    end
  end
  return list
end

local fleet, changes, slices, damaged = {}, {}, {}, nil
for index, value in ipairs(redis.call('HMGET', circuit, unpack(FIELDS))) do
  local name = FIELDS[index]
  if index <= TEXTS then
    fleet[name] = value or ''
  else
    fleet[name] = tonumber(value or 0)
    if not whole(fleet[name], MAX) then damaged = name end
  end
end
for _, name in ipairs({ 'rounds', 'streak', 'traffic', 'bad', 'streaks', 'leased' }) do
  if not damaged and fleet[name] > MAX_COUNT then damaged = name end
end
if fleet.state == '' then fleet.state = 'CLOSED' elseif not STATES[fleet.state] then damaged = 'state' end
if fleet.slices ~= '' then
  slices = unpacked_slices(fleet.slices)
  if not slices then damaged = 'slices' end
end
-- Invalid data is deleted. The circuit is restored by the host with the highest generation.
if damaged then
  redis.call('DEL', circuit, hosts, seen, leases)
  for index, name in ipairs(FIELDS) do
    if index <= TEXTS then fleet[name] = '' else fleet[name] = 0 end
  end
  fleet.state, slices = 'CLOSED', {}
end
fleet.reason = string.sub(fleet.reason, 1, 256)

local function set(name, value)
  fleet[name] = value
  changes[#changes + 1], changes[#changes + 2] = name, value
end

-- No state lasts longer than the reporting host's configuration allows.
local longest = LONGEST[fleet.state] or A_MONTH
if fleet.duration > longest then set('duration', longest) end
-- The end lies further ahead if a former server's clock was ahead.
if fleet['until'] > now + fleet.duration then set('until', now + fleet.duration) end
for name, max in pairs({ window_used = now, expires = now + EXPIRE }) do
  if fleet[name] > max then set(name, 0) end
end

local function enter(state, duration, reason, operator, lost)
  if state == 'OPEN' and fleet.state == 'HALF_OPEN' then set('rounds', fleet.rounds + 1) end
  if state == 'CLOSED' then
    set('rounds', 0)
    set('streak', 0)
    set('slices', '')
    slices = {}
  end
  if fleet.lost ~= (lost or 0) then set('lost', lost or 0) end
  set('generation', fleet.generation + 1)
  set('state', state)
  set('until', duration and now + duration or 0)
  set('duration', duration or 0)
  set('reason', reason)
  set('operator', operator)
  for _, name in ipairs({ 'traffic', 'bad', 'streaks' }) do set(name, 0) end
  redis.call('DEL', leases)
  redis.pcall('PUBLISH', report.channel, report.name)
end

-- A server that was restarted empty, or has lost its latest writes, is restored by the host with the highest generation.
-- A generation near MAX is ignored: it is invented, and there would be no next one.
if report.known_generation > fleet.generation and report.known_generation < MAX - 1e6 then
  redis.call('DEL', hosts, seen)
  if report.state == 'HALF_OPEN' then -- the leases are lost: reopen until all permits of the round have expired
    fleet.generation = report.known_generation
    enter('OPEN', report.silence, LOST, 0, 1)
  else
    fleet.generation = report.known_generation - 1
    enter(report.state, report.remaining, report.reason, report.operator)
  end
elseif fleet.generation == 0 then
  redis.call('DEL', hosts, seen)
  enter('CLOSED', nil, '', 0)
end

-- Changes of state that are due by time.
if HELD[fleet.state] and fleet['until'] > 0 and now >= fleet['until'] then
  enter(HELD[fleet.state], 0, fleet.state .. ' has expired', 0)
end

-- A proposal applies in the generation in which it was made; an operator's applies in any, and once.
local change = report.change
if change and change.operator == 1 then
  local latest = 'operation:' .. report.host
  if change.generation > fleet[latest] then
    enter(change.state, change.duration, change.reason, 1)
    set(latest, change.generation)
  end
elseif change and change.generation == fleet.generation then
  enter(change.state, change.duration, change.reason, 0)
end
if report.thresholds then
  set('thresholds_version', math.max(fleet.thresholds_version, report.thresholds_version) + 1)
  set('thresholds', report.thresholds)
  set('window', 0)
  redis.pcall('PUBLISH', report.channel, report.name)
end

-- The window of the fleet is that of its first host, until no host has used that length for one window.
if fleet.window ~= report.window and (fleet.window == 0 or now - fleet.window_used > fleet.window) then
  set('window', report.window)
  set('slices', '')
  slices = {}
end
if fleet.window == report.window and now - fleet.window_used > fleet.window / SLICES then set('window_used', now) end

-- Silent hosts have no vote, nor have hosts whose last report lies in the future.
local expires, anew = now >= fleet.expires, false
local silent = redis.call('ZRANGEBYSCORE', seen, '-inf', now - fleet.window, 'LIMIT', 0, 10)
if expires then
  for _, host in ipairs(redis.call('ZRANGEBYSCORE', seen, '(' .. now, '+inf', 'LIMIT', 0, 100)) do
    silent[#silent + 1] = host
  end
  anew = math.max(fleet.traffic, fleet.bad, fleet.streaks) > redis.call('ZCARD', seen)
end
for _, host in ipairs(silent) do
  local last = unpacked(redis.call('HGET', hosts, host), 7)
  if last and last[1] == fleet.generation then
    set('traffic', math.max(fleet.traffic - last[5], 0))
    set('bad', math.max(fleet.bad - last[6], 0))
    set('streaks', math.max(fleet.streaks - last[7], 0))
  end
  redis.call('HDEL', hosts, host)
  redis.call('ZREM', seen, host)
end

-- The host's new counts. Of its last report, this is stored: the generation, the totals, and 1 for traffic, for calls
-- that fail at a rate that opens the circuit, and for a streak of failures. A report has totals and not differences, so
-- that a report sent twice counts once.
local last = unpacked(redis.call('HGET', hosts, report.host), 7)
if not last then
  last = { fleet.generation, report.requests - report.new_requests, report.failures - report.new_failures,
    report.slow - report.new_slow, 0, 0, 0 }
  anew = anew or redis.call('ZSCORE', seen, report.host) -- its votes were counted, and evicted
elseif last[1] ~= fleet.generation then
  last[5], last[6], last[7] = 0, 0, 0
end
if anew then -- the counted votes are unknown
  for _, name in ipairs({ 'traffic', 'bad', 'streaks' }) do set(name, 0) end
  redis.call('DEL', hosts, seen)
  last[5], last[6], last[7] = 0, 0, 0
end
local function since(total, before, at_most) return math.max(0, math.min(total - before, at_most)) end
local requests = since(report.requests, last[2], report.new_requests)
local failures = since(report.failures, last[3], report.new_failures)
local slow = since(report.slow, last[4], report.new_slow)

-- The window: the number of each slice, and its counts.
local number = math.floor(now / math.max(1, math.floor(fleet.window / SLICES)))
local recent, sums, mine = {}, { 0, 0, 0 }, nil
for _, slice in ipairs(slices) do
  if slice[1] > number - SLICES and slice[1] <= number then
    recent[#recent + 1] = slice
    if slice[1] == number then mine = slice end
    for each = 1, 3 do sums[each] = sums[each] + slice[each + 1] end
  end
end

-- A new host does not know any generation yet: its counts are accepted.
local votes = (report.generation == fleet.generation or report.generation == 0)
  and (fleet.state == 'CLOSED' or fleet.state == 'METRICS_ONLY')
local traffic, bad, streaks = 0, 0, 0
if votes then
  if requests + failures + slow > 0 then
    if not mine then
      mine = { number, 0, 0, 0 }
      recent[#recent + 1] = mine
    end
    for each, count in ipairs({ requests, failures, slow }) do
      mine[each + 1], sums[each] = mine[each + 1] + count, sums[each] + count
    end
    set('slices', cmsgpack.pack({ recent }))
    -- A success on any host ends the streak; the host's failures after its own success begin the next one.
    set('streak', requests > failures and report.streak or fleet.streak + failures)
  end
  traffic, bad, streaks = report.traffic, report.bad, math.min(report.streak, 1)
  if traffic ~= last[5] then set('traffic', math.max(fleet.traffic + traffic - last[5], 0)) end
  if bad ~= last[6] then set('bad', math.max(fleet.bad + bad - last[6], 0)) end
  if streaks ~= last[7] then set('streaks', math.max(fleet.streaks + streaks - last[7], 0)) end
end
redis.call('HSET', hosts, report.host, cmsgpack.pack({ fleet.generation, report.requests, report.failures, report.slow,
  traffic, bad, streaks }))
redis.call('ZADD', seen, now, report.host)

-- Probes. A lease belongs to one stay of a host in the round: permits granted, taken, succeeded and failed; the time
-- without report at which they expire, the time of the last grant, and 1 if unused permits are recalled. A host keeps
-- its permits only while it reports: a probe without result fails when its host falls silent. An unused permit is given
-- to another host.
if fleet.state == 'OPEN' and now >= fleet['until'] and report.probe_requested == 1 then
  enter('HALF_OPEN', report.round, 'time to try again', 0)
end
local own = report.host .. ':' .. report.stay
local stored, given, succeeded, failed, permits = 0, 0, 0, 0, 0
if fleet.state == 'HALF_OPEN' then
  -- There is one for each permit: so many were written by another program, and would block the server.
  if redis.call('HLEN', leases) > MAX_LEASES then redis.call('UNLINK', leases) end
  local held, idle, found = redis.call('HGETALL', leases), nil, false
  local lease = { 0, 0, 0, 0, now + report.silence, now, 0 }
  for index = 1, #held, 2 do
    local key, each = held[index], unpacked(held[index + 1], 7) or { 0, 0, 0, 0, 0, now, 0 }
    stored = stored + each[1]
    if key == own and report.probes_of == fleet.generation then -- the host's own counts, late or not
      each[2], each[3], each[4], each[5] = report.taken, report.succeeded, report.failed, now + report.silence
      if each[7] == 1 and report.budget < each[1] then each[1], each[7] = math.max(report.budget, report.taken), 0 end
    elseif now >= math.min(each[5], now + report.silence) and each[3] + each[4] < each[1] then
      each[2], each[4] = each[1], each[1] - each[3]
      redis.call('HSET', leases, key, cmsgpack.pack(each))
    end
    if key == own then
      lease, found = each, true
    elseif each[1] > each[2] and each[7] == 0 and now - each[6] >= IDLE then
      idle = { key, each }
    end
    given, succeeded, failed = given + each[1], succeeded + each[3], failed + each[4]
  end
  -- Leases whose permits may be in use have been lost.
  local lost = fleet.leased_in == fleet.generation and stored < fleet.leased
  if lost then
    enter('OPEN', report.silence, LOST, 0, 1)
    given, succeeded, failed = 0, 0, 0
  elseif report.probe_requested == 1 and now < fleet['until'] then
    if given < report.permits then
      lease[1], lease[6], given = lease[1] + 1, now, given + 1
    elseif idle then
      idle[2][7] = 1
      redis.call('HSET', leases, idle[1], cmsgpack.pack(idle[2]))
    end
  end
  if not lost then
    if lease[1] > 0 or found then
      redis.call('HSET', leases, own, cmsgpack.pack(lease))
      redis.call('PEXPIRE', leases, report.keep)
    end
    if given ~= fleet.leased or fleet.leased_in ~= fleet.generation then
      set('leased', given)
      set('leased_in', fleet.generation)
    end
    permits = lease[7] == 1 and lease[2] or lease[1]
  end
end

expires = expires or #silent > 0
if expires then set('expires', now + EXPIRE) end
if #changes > 0 then redis.call('HSET', circuit, unpack(changes)) end
if expires then
  for _, key in ipairs({ circuit, hosts, seen }) do redis.call('PEXPIRE', key, report.keep + EXPIRE) end
end

local thresholds = fleet.thresholds_version > report.thresholds_version and redis.call('HGET', circuit, 'thresholds')
return cjson.encode({
  generation = fleet.generation, state = fleet.state, reason = fleet.reason, operator = fleet.operator,
  remaining = fleet['until'] > 0 and fleet['until'] - now or cjson.null, rounds = fleet.rounds,
  requests = sums[1], failures = sums[2], slow = sums[3], streak = fleet.streak,
  traffic = fleet.traffic, bad = fleet.bad, streaks = fleet.streaks,
  permits = permits, given = given, succeeded = succeeded, failed = failed,
  thresholds_version = fleet.thresholds_version,
  thresholds = thresholds and string.sub(thresholds, 1, 4096) or cjson.null,
  lost = fleet.lost, damaged = damaged or cjson.null,
})
