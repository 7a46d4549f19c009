/*
 * Admission, permits, settlement and change of state of one circuit, shared by processes that may die at any step.
 *
 * Every store and every load of a cell that another process may write meanwhile is one step. Head cells that only the
 * holder of the lock writes are read together with the step that uses them.
 *
 *   here              in the code
 *   word              head[WORD]: generation * 4 + state
 *   until             head[UNTIL], 0: never, 1: some time. Whether it has come is chosen at each look: PASSED, NOT_YET
 *   lock              LedgerCore.lock, a FileLock: freed by the kernel when its holder dies
 *   claimed[]         the lock file of a shard: locks.claim
 *   Worker            a process with one shard and one stripe
 *   take_shard        LedgerCore.shard: claim, then shards.adopt
 *   call              CircuitBreaker._admit, StateMachine.admit, Counters.admit, the call, CircuitBreaker._settle
 *   settle            _settle, Counters.record, Counters._extend_streak, Counters.end_probe
 *   permit, note_admitted, take   StateMachine.admit, Counters.admit, Counters.take_permit
 *   adopt             shards.adopt
 *   read_round        window.read of a HALF_OPEN record, a page in the order of its cells
 *   read_streak       window.read of a CLOSED record
 *   evaluate          StateMachine.evaluate and StateMachine.verdict. The breaker evaluates without the lock first, to
 *                     decide if the lock is needed: here it is taken or not at will
 *   enter             StateMachine._enter
 *   Operator          BreakerControl.reset
 *   Fate              SIGKILL, or a stop that never ends (SIGSTOP, a frozen container)
 *   Successor         the process that calls when all others are idle, dead or stopped
 *
 * What is claimed:
 *   P1  in a round, permits given less permits returned are never above MAX (out)
 *   P2  the circuit is never wedged: after anything that the others left behind, the successful calls of one process close it,
 *       unless a stopped process holds the lock (Successor)
 *   P3  a stripe has one writer at a time (writer[])
 *   P4  votes that a verdict counts, the streak included, come from calls of its own generation (votes_*)
 *   P5  the state changes under the lock, by one process at a time, one generation at a time (entering)
 *   P6  a permit has at most one vote at each verdict (good + bad + back <= out)
 *   P7  no permit is lost, even before the round's deadline (Successor: good + bad >= out - votes_back)
 * and, where asked for with -D, because the code does not hold them:
 *   START=HELD        P2 from a hold that expires
 *   TOTALS            P8 for probes: each is counted in the totals; with ONE_COUNT once only
 *   NO_PHANTOM        a successor counts no probe that was killed before it had its permit
 * OPERATOR adds a reset that may be killed half-way.
 *
 * Bounds: MAX max_requests, NEED success_threshold, FAILURES failure_threshold, CALLS per worker, WORKERS with a
 * shard of their own, SUCCESSORS that wait for the shard of a dead one and make SUCCESSOR_CALLS, KILLS, STOPS, LAST
 * generation.
 */

#ifndef MAX
#define MAX 2
#endif
#ifndef NEED
#define NEED 1
#endif
#ifndef FAILURES
#define FAILURES 1
#endif
#ifndef CALLS
#define CALLS 2
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef SUCCESSORS
#define SUCCESSORS 0
#endif
#ifndef SUCCESSOR_CALLS
#define SUCCESSOR_CALLS 1	/* 0: it only adopts, as LedgerCore.reap does */
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef LAST
#define LAST 5
#endif

#define CLOSED 0
#define OPEN 1
#define HALF_OPEN 2
#define HELD 3	/* DISABLED: it admits all and expires */
#define STAY 4
#ifndef START
#define START OPEN
#endif

#define GENERATION(w) ((w) >> 2)
#define STATE(w) ((w) & 3)

#define OPERATOR_ID (WORKERS + SUCCESSORS)
#define SUCCESSOR_ID (WORKERS + SUCCESSORS + 1)
#define PROCESSES (WORKERS + SUCCESSORS + 2)
#define STRIPES (WORKERS + 1)
#define NO_PROCESS 255

/* How a process fares. */
#define RUNS 0
#define IDLE 1
#define DEAD 2
#define STOPPED 3

/* What a process knows of the time: anything, that no deadline has passed, that all have. */
#define ANY 0
#define EARLY 1
#define LATER 2
#define PASSED (time != EARLY)
#define NOT_YET (time != LATER)

#define SUCCESS 0
#define FAILURE 1
#define NEUTRAL 2

typedef Stripe {
	bit started;
	byte admitted;
	byte streak_of;
	byte streak_failures;
	byte round;
	byte taken;
	byte good;
	byte bad;
	byte back
};

/* The ledger. */
byte word = (1 << 2) | START;
bit until = (START != CLOSED);
byte streak = 1;
Stripe stripe[STRIPES];

/* The kernel. */
byte lock = NO_PROCESS;
byte claimed[STRIPES];
byte mode[PROCESSES];

/* What the proof remembers; the code has none of it. */
byte writer[STRIPES];
byte entering = NO_PROCESS;
byte out;
byte votes_good, votes_bad, votes_back, votes_streak;
bit running[STRIPES];	/* the call in this stripe may have begun */
#ifdef TOTALS
byte begun[STRIPES], counted[STRIPES];	/* of probes */
#define COUNT d_step { assert(writer[b] == me); counted[b] = counted[b] + (STATE(my) == HALF_OPEN) }
#define BEGIN(probe) running[b] = 1; begun[b] = begun[b] + probe
#else
#define COUNT skip
#define BEGIN(probe) running[b] = 1
#endif

#define FORGET good = 0; bad = 0; back = 0; overdue = 0; given = 0

/* The successor's stripe is empty until all others are quiet. */
#define READABLE (WORKERS + (me == SUCCESSOR_ID))

#define STORE(cell, value) d_step { assert(writer[b] == me); stripe[b].cell = value }

inline acquire(got)
{
	if
	:: atomic { lock == NO_PROCESS -> lock = me; got = 1 }
	:: lock != NO_PROCESS -> got = 0	/* waited for PATIENCE in vain */
	fi
}

inline release()
{
	d_step { assert(lock == me); lock = NO_PROCESS }
}

inline read_round(generation)
{
	d_step { FORGET; i = 0 }
	do
	:: atomic { i < READABLE -> seen = stripe[i].started }
#ifdef OLD_PERMIT
		if
		:: seen && GENERATION(stripe[i].admitted) == generation && PASSED -> bad++; overdue++
		:: seen && GENERATION(stripe[i].admitted) == generation && NOT_YET
		:: !seen || GENERATION(stripe[i].admitted) != generation
		fi;
#endif
		if
#ifdef NO_ROUND_TAG
		:: atomic { stripe[i].round != 0 -> taken = stripe[i].taken }
#else
		:: atomic { stripe[i].round == generation -> taken = stripe[i].taken }
#endif
			d_step { settled = stripe[i].good; good = good + settled }
			d_step { settled = settled + stripe[i].bad; bad = bad + stripe[i].bad }
			atomic {
				settled = settled + stripe[i].back;
				back = back + stripe[i].back;
				given = given + taken;
#ifndef OLD_PERMIT
				if
#ifndef NO_OVERDUE
				:: taken > settled && seen && PASSED ->
					bad = bad + taken - settled;
					overdue = overdue + taken - settled
				:: taken > settled && seen && NOT_YET
#else
				:: taken > settled && seen
#endif
				:: taken <= settled || !seen
				fi;
#endif
				d_step { taken = 0; settled = 0; seen = 0; i++ }
			}
		:: atomic { else -> seen = 0; i++ }
		fi
	:: else -> break
	od;
	i = 0
}

inline read_streak()
{
	d_step { bad = 0; i = 0 }
	do
#ifdef OLD_STREAK
	:: i < READABLE ->
#else
	:: i < READABLE && GENERATION(stripe[i].admitted) != GENERATION(word) -> i++
	:: i < READABLE && GENERATION(stripe[i].admitted) == GENERATION(word) ->
#endif
		if
		:: stripe[i].streak_of == streak -> d_step { bad = bad + stripe[i].streak_failures; i++ }
		:: else -> i++
		fi
	:: i >= READABLE -> break
	od;
	i = 0
}

inline enter(state)
{
	d_step {
		w = word;
		assert(entering == NO_PROCESS || mode[entering] == DEAD);
		entering = me
	}
	if
	:: state != CLOSED -> until = 1
#ifdef FIX_UNTIL
	:: state == CLOSED -> streak = streak + 1; until = 1
#else
	:: state == CLOSED -> streak = streak + 1; until = 0
#endif
	fi;
	d_step {
		assert(entering == me);
		assert(lock == me);
		assert(GENERATION(word) == GENERATION(w));
		word = ((GENERATION(w) + 1) << 2) | state;
		entering = NO_PROCESS;
		if
		:: state == HALF_OPEN -> out = 0; votes_good = 0; votes_bad = 0; votes_back = 0
		:: state == CLOSED -> votes_streak = 0
		:: else
		fi;
		w = 0
	}
}

inline look()
{
	verdict = STAY;
	g = GENERATION(word);
	if
	:: STATE(word) == CLOSED ->
		read_streak();
		d_step {
			if
			:: bad >= FAILURES ->
				verdict = OPEN;
				assert(STATE(word) != CLOSED || bad <= votes_streak)
			:: else
			fi;
			bad = 0
		}
	:: STATE(word) == HALF_OPEN ->
		read_round(g);
		d_step {
			if
			:: GENERATION(word) == g ->
				assert(good <= votes_good);
				assert(bad - overdue <= votes_bad);
				assert(back <= votes_back);
				assert(good + bad + back <= out)
			:: else
			fi
		}
		if
		:: good >= NEED -> verdict = CLOSED
		:: good < NEED && MAX - bad < NEED -> verdict = OPEN
		:: good < NEED && MAX - bad >= NEED && (PASSED || !until) -> verdict = OPEN
		:: good < NEED && MAX - bad >= NEED && NOT_YET && until
		fi;
		d_step { FORGET }
	:: STATE(word) == HELD ->
		if
		:: until && PASSED -> verdict = CLOSED
		:: !until || NOT_YET
		fi
	:: else
	fi
}

/* The caller holds the lock. */
inline evaluate()
{
	look();
	if
	:: verdict == STAY
	:: verdict != STAY && GENERATION(word) >= LAST && me != SUCCESSOR_ID -> calls = 0; moved = 1
	:: verdict != STAY && (GENERATION(word) < LAST || me == SUCCESSOR_ID) ->
		assert(GENERATION(word) == g);
		enter(verdict);
		moved = 1
	fi;
	d_step { verdict = STAY; g = 0 }
}

/* BreakerControl._evaluate: `look` without the lock decides nothing. */
inline evaluate_alone()
{
#ifdef NO_REEVALUATE
	look();
	if
	:: verdict != STAY && GENERATION(word) < LAST ->
		acquire(ok);
		if
		:: ok -> assert(GENERATION(word) == g); enter(verdict); release()
		:: else
		fi
	:: else
	fi;
	d_step { verdict = STAY; g = 0 }
#else
#ifdef ENTER_WITHOUT_LOCK
	evaluate();
#else
	acquire(ok);
	if
	:: ok -> evaluate(); release()
	:: else
	fi;
#endif
#endif
	d_step { ok = 0; moved = 0 }
}

inline probed(total, votes)
{
	d_step {
		assert(writer[b] == me);
		if
		:: stripe[b].round == GENERATION(my) -> stripe[b].total = stripe[b].total + 1
		:: else
		fi;
		if
		:: GENERATION(my) == GENERATION(word) -> votes = votes + 1
		:: else
		fi
	}
}

inline extend_streak()
{
	s = streak;
	if
	:: stripe[b].streak_of != s -> STORE(streak_failures, 0); STORE(streak_of, s)
	:: else
	fi;
	d_step {
		assert(writer[b] == me);
		stripe[b].streak_failures = stripe[b].streak_failures + 1;
		if
		:: GENERATION(my) == GENERATION(word) -> votes_streak = votes_streak + 1
		:: else
		fi;
		s = 0
	}
}

inline end_call()
{
	d_step { assert(writer[b] == me); stripe[b].started = 0; running[b] = 0 }
}

/* The call that `my` admitted ends; `good_enough` says whether a success is in time. */
inline settle(outcome, good_enough)
{
	late = (GENERATION(word) != GENERATION(my));
	if
	:: late ->
		COUNT;
#ifdef FIX_PHANTOM
		if
		:: STATE(my) == HALF_OPEN -> probed(back, votes_back)
		:: else
		fi
#endif
	:: !late && (outcome == NEUTRAL || STATE(my) == HELD) ->
		COUNT;
		if
		:: STATE(my) == HALF_OPEN -> probed(back, votes_back)
		:: else
		fi
	:: !late && outcome != NEUTRAL && STATE(my) != HELD ->
		COUNT;
		if
		:: outcome == FAILURE -> extend_streak()
		:: else
		fi;
		if
		:: STATE(my) == HALF_OPEN && outcome == SUCCESS && good_enough -> probed(good, votes_good)
		:: STATE(my) == HALF_OPEN && !(outcome == SUCCESS && good_enough) -> probed(bad, votes_bad)
		:: STATE(my) != HALF_OPEN
		fi
	fi;
	end_call()
}

/* StateMachine.admit reads once more. */
inline permit()
{
	d_step { admitted = 0; g = GENERATION(word) }
	read_round(g);
	d_step { admitted = (given - back < MAX); FORGET; g = 0 }
}

inline take()
{
	if
	:: stripe[b].round != GENERATION(my) ->
#ifndef STALE_TAKEN
		STORE(taken, 0);
#endif
		STORE(good, 0);
		STORE(bad, 0);
		STORE(back, 0);
		STORE(round, GENERATION(my))
	:: else
	fi;
	d_step {
		assert(writer[b] == me);
		stripe[b].taken = stripe[b].taken + 1;
		BEGIN(1);
		if
		:: GENERATION(my) == GENERATION(word) -> out = out + 1; assert(out - votes_back <= MAX)
		:: else
		fi
	}
}

inline note_admitted()
{
#ifndef OLD_STREAK
	if
	:: STATE(my) != HALF_OPEN && GENERATION(stripe[b].admitted) != GENERATION(my) -> STORE(streak_of, 0)
	:: else
	fi;
#endif
	STORE(started, 1);
	if
	:: STATE(my) == HALF_OPEN -> STORE(admitted, my); take()
	:: else -> d_step { assert(writer[b] == me); stripe[b].admitted = my; BEGIN(0) }
	fi
}

inline admit()
{
	d_step { admitted = 0; my = word }
	if
	:: STATE(my) == CLOSED || STATE(my) == HELD -> admitted = 1; note_admitted()
	:: else ->
		if
		:: STATE(my) == HALF_OPEN -> ok = 1
#ifdef OLD_DUE
		:: STATE(my) == OPEN && PASSED && until -> ok = 1
		:: STATE(my) == OPEN && (NOT_YET || !until) -> ok = 0
#else
		:: STATE(my) == OPEN && (PASSED || !until) -> ok = 1
		:: STATE(my) == OPEN && NOT_YET && until -> ok = 0
#endif
		fi;
		my = 0;
		if
		:: ok ->
			acquire(ok);
			if
			:: ok ->
				evaluate();
				if
				:: STATE(word) == OPEN && !moved && (PASSED || !until) && (GENERATION(word) < LAST || me == SUCCESSOR_ID) ->
					enter(HALF_OPEN)
				:: STATE(word) != OPEN || moved || NOT_YET || (GENERATION(word) >= LAST && me != SUCCESSOR_ID)
				fi;
#ifdef PERMIT_OUTSIDE_LOCK
				release();
#endif
				if
				:: STATE(word) == HALF_OPEN && !(moved && calls == 0) -> permit()
				:: STATE(word) == CLOSED -> admitted = 1
				:: else
				fi;
				if
				:: admitted -> my = word; note_admitted()
				:: else
				fi;
#ifndef PERMIT_OUTSIDE_LOCK
				release()
#endif
			:: else
			fi
		:: else
		fi
	fi;
	d_step { ok = 0; moved = 0 }
}

/* A permit that is out becomes a failure. */
inline vote_for_the_dead()
{
#ifndef NO_REAPING
	if
	:: taken > settled ->
		d_step {
			assert(writer[b] == me);
			stripe[b].bad = stripe[b].bad + taken - settled;
			if
			:: stripe[b].round == GENERATION(word) -> votes_bad = votes_bad + taken - settled
			:: else
			fi
		}
	:: taken <= settled	/* less only in a round that is over, which no process reads */
	fi
#else
	skip
#endif
}

inline adopt()
{
	d_step {
		my = stripe[b].admitted;
		seen = stripe[b].started;
		taken = stripe[b].taken;
		settled = stripe[b].good + stripe[b].bad + stripe[b].back;
#ifdef OLD_PERMIT
		taken = settled + (seen && STATE(my) == HALF_OPEN);
#endif
#ifdef FIX_PHANTOM
		if
		:: taken < settled -> taken = settled
		:: else
		fi
#endif
	}
#ifndef FIX_ORDER
	vote_for_the_dead();
#endif
	if
	:: seen && (taken != settled || STATE(my) != HALF_OPEN) ->
#ifdef NO_PHANTOM
		assert(running[b] || STATE(my) != HALF_OPEN);
#endif
		late = (GENERATION(word) != GENERATION(my));
		COUNT;
		if
		:: !late && STATE(my) != HELD -> extend_streak()
		:: else
		fi
	:: else
	fi;
#ifdef FIX_ORDER
	vote_for_the_dead();
#endif
	end_call();
	d_step { my = 0; late = 0; seen = 0; taken = 0; settled = 0 }
}

inline take_shard()
{
#ifdef ADOPT_WITHOUT_CLAIM
	d_step {
#else
	atomic {
		claimed[b] == NO_PROCESS -> claimed[b] = me;
#endif
		assert(writer[b] == NO_PROCESS || mode[writer[b]] == DEAD);
		writer[b] = me
	}
	adopt()
}

#define LOCALS \
	byte w, my, g, s, good, bad, back, overdue, given, taken, settled, i, verdict = STAY; \
	bit seen, ok, moved, late, admitted
#if WORKERS + SUCCESSORS == 2
#define ALL_QUIET (mode[0] && mode[1] && mode[2])
#else
#define ALL_QUIET (mode[0] && mode[1] && mode[2] && mode[3])
#endif

proctype Worker(byte me; byte b; byte calls)
{
	LOCALS;
	byte time = ANY;

	{
		if
		:: b != NO_PROCESS
		:: else ->	/* a successor, that finds the shard of a dead worker */
			if
			:: atomic { mode[0] == DEAD && claimed[0] == NO_PROCESS -> b = 0 }
			:: atomic { mode[1] == DEAD && claimed[1] == NO_PROCESS -> b = 1 }
			fi;
			take_shard()
		fi;
		do
		:: calls > 0 ->
			calls--;
			admit();
			if
			:: admitted ->
				if
				:: settle(SUCCESS, 1)
				:: STATE(my) == HALF_OPEN -> settle(NEUTRAL, 0)
				:: settle(FAILURE, 0)
				fi;
				d_step { my = 0; admitted = 0 }
				if
				:: !late -> evaluate_alone()
				:: true
				fi;
				late = 0
			:: else
			fi
		:: else -> break
		od
	} unless { mode[me] != RUNS };
	atomic {
		if
		:: mode[me] == RUNS -> mode[me] = IDLE
		:: else
		fi
	}
}

/* BreakerControl.reset, once, at any time. */
proctype Operator()
{
	byte w, me = OPERATOR_ID;
	bit ok;

	{
		acquire(ok);
		if
		:: ok && GENERATION(word) < LAST -> enter(CLOSED); release()
		:: ok && GENERATION(word) >= LAST -> release()
		:: !ok
		fi
	} unless { mode[me] != RUNS };
	atomic {
		if
		:: mode[me] == RUNS -> mode[me] = IDLE
		:: else
		fi
	}
}

inline free_shard(shard)
{
	if
	:: claimed[shard] == i -> claimed[shard] = NO_PROCESS
	:: else
	fi
}

proctype Fate()
{
	byte kills = KILLS, stops = STOPS, i;

	end: do
	:: atomic {
		kills > 0 ->
			select(i : 0 .. OPERATOR_ID);
			if
			:: mode[i] == RUNS ->
				kills--;
				mode[i] = DEAD;
#ifndef LOCK_OUTLIVES_HOLDER
				if
				:: lock == i -> lock = NO_PROCESS
				:: else
				fi;
#endif
				d_step {
					free_shard(0);
					free_shard(1)
				}
			:: else
			fi;
			i = 0
		}
	:: atomic {
		stops > 0 ->
			select(i : 0 .. OPERATOR_ID);
			if
			:: mode[i] == RUNS -> stops--; mode[i] = STOPPED
			:: else
			fi;
			i = 0
		}
	od
}

proctype Successor()
{
	LOCALS;
	byte me = SUCCESSOR_ID, b, calls = 1, tries, time = EARLY;

	end: atomic {
		ALL_QUIET ->
		if
		:: lock != NO_PROCESS && mode[lock] == STOPPED	/* probes are refused until it goes on: agreed */
		:: else ->
			do
			:: b < WORKERS ->
				if
				:: claimed[b] == NO_PROCESS -> take_shard()
				:: else
				fi;
				b++
			:: else -> break
			od;
#ifdef TOTALS
			assert(counted[0] >= begun[0] && counted[1] >= begun[1]);
#ifdef ONE_COUNT
			assert(counted[0] <= begun[0] && counted[1] <= begun[1]);
#endif
#endif
			if
			:: STATE(word) == HALF_OPEN ->
				time = LATER;
				g = GENERATION(word);
				read_round(g);
				assert(good + bad >= out - votes_back);
				time = EARLY;
				d_step { FORGET; g = 0 }
			:: else
			fi;
			claimed[b] = me;
			writer[b] = me;
			do
			:: STATE(word) == CLOSED -> break
			:: STATE(word) == HELD ->	/* its watch looks again and again */
				assert(tries < 10);
				tries++;
				time = LATER;
				evaluate_alone()
			:: else ->
				assert(tries < 10);
				tries++;
				calls = 1;
				admit();
				if
				:: admitted ->
					time = EARLY;
					settle(SUCCESS, 1);
					d_step { my = 0; admitted = 0 }
					if
					:: !late -> evaluate_alone()
					:: else
					fi;
					late = 0
				:: else -> time = LATER
				fi
			od
		fi
	}
}

init
{
	byte i;

	atomic {
		do
		:: i < STRIPES ->
			claimed[i] = NO_PROCESS;
			writer[i] = NO_PROCESS;
			i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < WORKERS -> claimed[i] = i; writer[i] = i; run Worker(i, i, CALLS); i++
		:: else -> break
		od;
#if SUCCESSORS == 1
		run Worker(WORKERS, NO_PROCESS, SUCCESSOR_CALLS);
#endif
#ifdef OPERATOR
		run Operator();
#else
		mode[OPERATOR_ID] = IDLE;
#endif
		run Fate();
		run Successor();
		i = 0
	}
}
