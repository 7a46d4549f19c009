/*
 * Shards: claimed by a process, adopted when it dies, reaped by another process, given back, claimed by a successor.
 *
 * Every store and every load of a cell that another process may write meanwhile is one step.
 * One record, one stripe a shard.
 *
 *   here              in the code
 *   owners[]          header[H_SHARD_OWNERS + shard], here the process plus 1
 *   claimed[]         the lock file of a shard, freed by the kernel when its holder dies: locks.claim
 *   started[]         cells[STARTED]
 *   counted[]         cells[SUCCESSES ...], and all else that Counters.record counts
 *   Worker            a process: LedgerCore.shard, then calls; LedgerCore.reap by its watch between them
 *   reap              LedgerCore.reap: the owners are read at once, then shard by shard
 *   adopt             shards.adopt
 *   give_back         Shards.leave, between two calls: the owner first, then the lock
 *   Peek              Shards.workers: MappedFile.alive claims a shard for a moment
 *   Fate              SIGKILL
 *   Last              what the next look of a live process's watch finds when all others are idle or dead
 *
 * What is claimed:
 *   P3  a stripe has one writer at a time, also while it is handed on (writer[])
 *   P8  no call is lost: once all is quiet and a live process has looked, each call that began has been counted, and no
 *       call of a dead process seems to run
 *   P9  a live process that has a shard is its owner in the header, and no dead one is
 * and, where asked for with -D, because the code does not hold it:
 *   P6_ONE_COUNT      no call is counted twice
 *
 * Bounds: SHARDS, WORKERS, CALLS each, REAPS each, RETURNS each, KILLS, PEEKS.
 */

#ifndef SHARDS
#define SHARDS 2
#endif
#ifndef WORKERS
#define WORKERS 3
#endif
#ifndef CALLS
#define CALLS 1
#endif
#ifndef REAPS
#define REAPS 1
#endif
#ifndef RETURNS
#define RETURNS 0
#endif
#ifndef KILLS
#define KILLS 2
#endif
#ifndef PEEKS
#define PEEKS 1
#endif

#define NO_PROCESS 255
#define NONE 255
#define PEEK_ID WORKERS
#define LAST_ID (WORKERS + 1)
#define RUNS 0
#define IDLE 1
#define DEAD 2

byte owners[SHARDS];
bit started[SHARDS];
byte counted[SHARDS];

byte claimed[SHARDS];
byte mode[LAST_ID];

/* What the proof remembers. */
byte writer[SHARDS];
byte begun[SHARDS];

inline claim(index)
{
#ifdef ADOPT_WITHOUT_CLAIM
	d_step {
		ok = 1;
		claimed[index] = me;
#else
	d_step {
		ok = (claimed[index] == NO_PROCESS);
		if
		:: ok -> claimed[index] = me
		:: else
		fi;
#endif
		if
		:: ok -> assert(writer[index] == NO_PROCESS || mode[writer[index]] == DEAD); writer[index] = me
		:: else
		fi
	}
}

inline adopt(index)
{
	if
	:: started[index] ->
		d_step { assert(writer[index] == me); counted[index] = counted[index] + 1 }
		d_step { assert(writer[index] == me); started[index] = 0 }
	:: else
	fi
}

inline give_up(index)
{
	d_step { assert(writer[index] == me); claimed[index] = NO_PROCESS; writer[index] = NO_PROCESS }
}

inline reap()
{
	d_step { j = 0; snapshot[0] = owners[0]; snapshot[1] = owners[1] }
	do
	:: j < SHARDS ->
		if
		:: snapshot[j] && j != b ->
			claim(j);
			if
			:: ok ->
#ifdef OWNER_BEFORE_ADOPTION
				owners[j] = 0;
				adopt(j);
				give_up(j)
#else
				adopt(j);
#ifdef OWNER_AFTER_GIVE_UP
				give_up(j);
				owners[j] = 0
#else
				owners[j] = 0;
				give_up(j)
#endif
#endif
			:: else
			fi
		:: else
		fi;
		d_step { ok = 0; snapshot[j] = 0; j++ }
	:: else -> break
	od;
	j = 0
}

inline acquire()
{
	do
	:: j < SHARDS && b == NONE ->
		claim(j);
		if
		:: ok -> b = j
		:: else
		fi;
		d_step { ok = 0; j++ }
	:: else -> break
	od;
	j = 0;
	if
	:: b == NONE	/* no shard: its calls are counted in the commons, under a lock */
	:: b != NONE ->
#ifndef SUCCESSOR_DOES_NOT_ADOPT
		adopt(b);
#endif
		owners[b] = me + 1
	fi
}

inline give_back()
{
#ifdef RETURN_LOCK_FIRST
	give_up(b);
	owners[b] = 0;
#else
	d_step { assert(writer[b] == me); owners[b] = 0 }
	give_up(b);
#endif
}

proctype Worker(byte me)
{
	byte b = NONE, j, calls = CALLS, reaps = REAPS, returns = RETURNS;
	byte snapshot[SHARDS];
	bit ok;

	{
		reap();
		acquire();
		do
		:: b != NONE && calls > 0 ->
			calls--;
			d_step { assert(writer[b] == me); started[b] = 1; begun[b]++ }
#ifdef RETURN_WHILE_RUNNING
			if
			:: returns > 0 -> returns--; give_back()
			:: skip
			fi;
#endif
#ifdef STARTED_CLEARED_FIRST
			d_step { assert(writer[b] == me); started[b] = 0 }
			d_step { assert(writer[b] == me); counted[b] = counted[b] + 1 }
#else
			d_step { assert(writer[b] == me); counted[b] = counted[b] + 1 }
			d_step { assert(writer[b] == me); started[b] = 0 }
#endif
		:: b != NONE && returns > 0 -> returns--; give_back(); b = NONE; acquire()
		:: b != NONE && reaps > 0 -> reaps--; reap()
		:: break
		od
	} unless { mode[me] != RUNS };
	atomic {
		if
		:: mode[me] == RUNS -> mode[me] = IDLE
		:: else
		fi
	}
}

proctype Peek()
{
	byte me = PEEK_ID, i, peeks = PEEKS;

	do
	:: peeks > 0 ->
		peeks--;
		if
		:: i = 0
		:: i = 1
		fi;
		if
		:: atomic { claimed[i] == NO_PROCESS -> claimed[i] = me }
			claimed[i] = NO_PROCESS
		:: claimed[i] != NO_PROCESS
		fi
	:: peeks == 0 -> break
	od;
	mode[me] = IDLE
}

proctype Fate()
{
	byte kills = KILLS, i, k;

	end: do
	:: atomic {
		kills > 0 ->
			select(i : 0 .. WORKERS - 1);
			if
			:: mode[i] == RUNS ->
				kills--;
				mode[i] = DEAD;
				for (k : 0 .. SHARDS - 1) {
					if
					:: claimed[k] == i -> claimed[k] = NO_PROCESS
					:: else
					fi
				}
			:: else
			fi;
			i = 0;
			k = 0
		}
	od
}

proctype Last()
{
	byte me = LAST_ID, b = NONE, j, k;
	byte snapshot[SHARDS];
	bit ok;

	end: atomic {
		mode[0] && mode[1] && mode[WORKERS - 1] && mode[PEEK_ID] ->
		reap();
		for (k : 0 .. SHARDS - 1) {
			assert(counted[k] >= begun[k]);
#ifdef P6_ONE_COUNT
			assert(counted[k] <= begun[k]);
#endif
			if
			:: claimed[k] == NO_PROCESS -> assert(!started[k] && !owners[k])
			:: else -> assert(owners[k] == claimed[k] + 1)
			fi
		}
	}
}

init
{
	byte i;

	atomic {
		for (i : 0 .. SHARDS - 1) {
			claimed[i] = NO_PROCESS;
			writer[i] = NO_PROCESS
		}
		for (i : 0 .. WORKERS - 1) {
			run Worker(i)
		}
		run Peek();
		run Fate();
		run Last()
	}
}
