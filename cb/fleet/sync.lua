-- One host's exchange with its fleet about one breaker: what it has counted, against what all have.
--
-- KEYS   circuit  hash: the fields in FIELDS below, the fleet's thresholds, and what each host's operator did last
--        hosts    hash by host: what it reported last
--        seen     sorted set of hosts by when they reported last
--        leases   hash by host and stay: permits of the running round
-- ARGV   the report, as JSON; `Report` in messages.py describes it
-- Returns the circuit as JSON; `Reply` in messages.py describes it
--
-- Times are milliseconds of this server's clock, the only one that hosts have in common. The script decides nothing but
-- what time decides; a host that finds, in what all have counted, a reason to change the state proposes that in its next
-- report. All of the circuit is read at once and written at once: that is most of what an exchange costs the server.
local circuit, hosts, seen, leases = unpack(KEYS)
local report = cjson.decode(ARGV[1])
local SLICES = 10
local IDLE = 1000 -- a permit that was not used for so long goes to another host that wants one
local EXPIRE = 60000 -- how often the keys are given a new time to live
local MOST = 2 ^ 45 -- no generation or time is above it, and no total of a host
local MANY = 1e12 -- calls, hosts and rounds: sums of a few of them still have all their digits in JSON
local LEASES = 10000 -- of a round, at the most
local STATES = { CLOSED = true, OPEN = true, HALF_OPEN = true, FORCED_OPEN = true, DISABLED = true, METRICS_ONLY = true }
local LOST = 'the round was lost'
local HELD = { FORCED_OPEN = 'OPEN', DISABLED = 'CLOSED', METRICS_ONLY = 'CLOSED' } -- and what follows when they expire
local FIELDS = { 'state', 'reason', 'slices', 'generation', 'until', 'duration', 'operator', 'rounds', 'streak',
  'window', 'window_used', 'traffic', 'bad', 'streaks', 'thresholds_version', 'expires', 'leased', 'leased_in', 'lost',
  'operation:' .. report.host }
local TEXTS = 3 -- of them; the others are numbers
local LONGEST = { OPEN = report.longest, HALF_OPEN = 86400000 } -- and a month for what an operator holds
local A_MONTH = 2678400000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function whole(number, most)
  return type(number) == 'number' and number >= 0 and number <= most and number % 1 == 0
end

-- What hosts have written, as lists of whole numbers. Nothing, if it was lost, is of another release, or was written by
-- somebody else.
local function unpacked(packed, length)
  if not packed or packed == '' then return nil end
  local fine, list = pcall(cmsgpack.unpack, packed)
  if not fine or type(list) ~= 'table' or #list ~= length then return nil end
  for _, number in ipairs(list) do
    if not whole(number, MOST) then return nil end
  end
  return list
end

local function unpacked_slices(packed)
  local fine, list = pcall(cmsgpack.unpack, packed)
  list = fine and type(list) == 'table' and #list == 1 and list[1]
  if type(list) ~= 'table' or #list > SLICES then return nil end
  for _, slice in ipairs(list) do
    if type(slice) ~= 'table' or #slice ~= 4 or not whole(slice[1], MOST) then return nil end
    for each = 2, 4 do
      if not whole(slice[each], MANY) then return nil end
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
    if not whole(fleet[name], MOST) then damaged = name end
  end
end
for _, name in ipairs({ 'rounds', 'streak', 'traffic', 'bad', 'streaks', 'leased' }) do
  if not damaged and fleet[name] > MANY then damaged = name end
end
if fleet.state == '' then fleet.state = 'CLOSED' elseif not STATES[fleet.state] then damaged = 'state' end
if fleet.slices ~= '' then
  slices = unpacked_slices(fleet.slices)
  if not slices then damaged = 'slices' end
end
-- What makes no sense is no better than nothing: it goes, and the circuit comes back from the host that remembers most.
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

-- Nobody waits longer than a host's configuration lets it.
local longest = LONGEST[fleet.state] or A_MONTH
if fleet.duration > longest then set('duration', longest) end
if fleet['until'] > now + fleet.duration then set('until', now + fleet.duration) end -- another server's clock was ahead
for name, most in pairs({ window_used = now, expires = now + EXPIRE }) do
  if fleet[name] > most then set(name, 0) end
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

-- A server that was restarted empty, or has lost its latest writes, learns from the host that remembers most. But not a
-- generation that somebody else has invented: nobody would come to the next.
if report.knows > fleet.generation and report.knows < MOST - 1e6 then
  redis.call('DEL', hosts, seen)
  if report.state == 'HALF_OPEN' then -- who has which permits is not known: that round is over, and its probes soon
    fleet.generation = report.knows
    enter('OPEN', report.silence, LOST, 0, 1)
  else
    fleet.generation = report.knows - 1
    enter(report.state, report.remaining, report.reason, report.operator)
  end
elseif fleet.generation == 0 then
  redis.call('DEL', hosts, seen)
  enter('CLOSED', nil, '', 0)
end

-- What time decides.
if HELD[fleet.state] and fleet['until'] > 0 and now >= fleet['until'] then
  enter(HELD[fleet.state], 0, fleet.state .. ' has expired', 0)
end

-- A proposal counts in the generation that it was made in; an operator's counts always, and once.
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

-- The window of the fleet is that of its first host, until nobody has the same any more.
if fleet.window ~= report.window and (fleet.window == 0 or now - fleet.window_used > fleet.window) then
  set('window', report.window)
  set('slices', '')
  slices = {}
end
if fleet.window == report.window and now - fleet.window_used > fleet.window / SLICES then set('window_used', now) end

-- Hosts that say no more have no vote. Nor have those that report in the future.
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

-- What the host has counted since its last report, of which is kept: the generation it was counted in, its totals, and
-- whether it had traffic, calls that fail at a rate that opens, and a streak of failures. It sends totals and not
-- differences: one sent twice counts once.
local last = unpacked(redis.call('HGET', hosts, report.host), 7)
if not last then
  last = { fleet.generation, report.requests - report.new_requests, report.failures - report.new_failures,
    report.slow - report.new_slow, 0, 0, 0 }
  anew = anew or redis.call('ZSCORE', seen, report.host) -- it was counted, and the server has evicted as what
elseif last[1] ~= fleet.generation then
  last[5], last[6], last[7] = 0, 0, 0
end
if anew then -- nobody knows whose votes were counted
  for _, name in ipairs({ 'traffic', 'bad', 'streaks' }) do set(name, 0) end
  redis.call('DEL', hosts, seen)
  last[5], last[6], last[7] = 0, 0, 0
end
local function since(total, before, at_most) return math.max(0, math.min(total - before, at_most)) end
local requests = since(report.requests, last[2], report.new_requests)
local failures = since(report.failures, last[3], report.new_failures)
local slow = since(report.slow, last[4], report.new_slow)

-- The window: of each slice, its number and what was counted in it.
local number = math.floor(now / math.max(1, math.floor(fleet.window / SLICES)))
local recent, sums, mine = {}, { 0, 0, 0 }, nil
for _, slice in ipairs(slices) do
  if slice[1] > number - SLICES and slice[1] <= number then
    recent[#recent + 1] = slice
    if slice[1] == number then mine = slice end
    for each = 1, 3 do sums[each] = sums[each] + slice[each + 1] end
  end
end

-- A host that is new has not heard of any generation yet.
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
    -- A success anywhere ends the streak; what this host has counted after its own success begins the next.
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

-- Probes. A lease says what one stay of a host in the round has: permits given, taken, ended well and badly; when it
-- falls silent, when the last permit was given, and whether those not taken are wanted back. A host has its permits only
-- while it goes on reporting: a probe that is out when it falls silent has failed. One not used goes to another host.
if fleet.state == 'OPEN' and now >= fleet['until'] and report.wants == 1 then
  enter('HALF_OPEN', report.round, 'time to try again', 0)
end
local own = report.host .. ':' .. report.stay
local stored, given, succeeded, failed, permits = 0, 0, 0, 0, 0
if fleet.state == 'HALF_OPEN' then
  -- Each is of a permit; so many were written by somebody else, and would hold up the server.
  if redis.call('HLEN', leases) > LEASES then redis.call('UNLINK', leases) end
  local held, idle, found = redis.call('HGETALL', leases), nil, false
  local lease = { 0, 0, 0, 0, now + report.silence, now, 0 }
  for index = 1, #held, 2 do
    local key, each = held[index], unpacked(held[index + 1], 7) or { 0, 0, 0, 0, 0, now, 0 }
    stored = stored + each[1]
    if key == own and report.probes_of == fleet.generation then -- late or not, it knows
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
  -- Of permits that somebody may use, nothing is known any more.
  local lost = fleet.leased_in == fleet.generation and stored < fleet.leased
  if lost then
    enter('OPEN', report.silence, LOST, 0, 1)
    given, succeeded, failed = 0, 0, 0
  elseif report.wants == 1 and now < fleet['until'] then
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
