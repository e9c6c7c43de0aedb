/* Waves: many lineages whose turn comes at about the same time. Two limits of the policy hold a wave in bounds: how many lineages begin in one run, and how many
 * may fail before none begins any more. Pure; the engine keeps the state in the store, of one row, whatever the number of domains. */
#ifndef DKIMROLL_WAVE_H
#define DKIMROLL_WAVE_H

#include "dkimroll/lifecycle.h"

enum {
  WAVE_RUN_SECONDS = 600,     /* what counts as one run: the timer's interval, whoever runs and however often */
  WAVE_PERIOD_SECONDS = 3600, /* failures are counted for so long */
  WAVE_SAMPLE_MIN = 10,       /* lineages of a period of which a percentage says something */
  WAVE_PROBE_FIRST = 3600,    /* a stopped wave tries one lineage so much later; doubles with each that fails */
  WAVE_PROBE_SLOWEST = 86400,
  WAVE_TEXT_MAX = 512,
  WAVE_ABSENCE_SECONDS = 86400,     /* dkimroll looks at every key that signs four times a day: who did nothing for so long was away */
  WAVE_RETURN_EACH = 60,            /* what became due meanwhile is spread over so much for each lineage that there is: ten in one run of the timer */
  WAVE_RETURN_LONGEST = 7 * 86400,  /* but not over more than this, nor over more time than the absence itself */
};

/* Places in runs, for one kind of step. Whoever finds none gets one in a later run, and keeps it. */
struct wave_places {
  unsigned taken; /* of the present run */
  int64_t last;   /* the latest run of which places are given away; TIME_UNSET: none is */
  unsigned given; /* of that run */
};

struct wave {
  struct policy_limits limits;
  /* The run that is counted, by its begin. */
  int64_t run;
  struct wave_places begins, switches; /* of lineages that begin a new key, or take over */
  /* The last return from an absence; TIME_UNSET: none, and over how much time is spread what became due meanwhile. */
  int64_t away_since, returned_at, spread;
  /* The period that is counted. */
  int64_t period;
  unsigned ended, failed; /* lineages whose step ended, and that failed of them */
  char first[WAVE_TEXT_MAX]; /* the first failure: "example.com: activate of s1: ..." */
  enum plan_action first_action;
  /* Stopped. */
  int64_t stopped_at; /* TIME_UNSET: not */
  unsigned stopped_ended, stopped_failed;
  int64_t probe_at;   /* the next lineage may try */
  unsigned probes;    /* that tried since */
};

/* Nothing was counted yet. */
void wave_begin(struct wave *wave);
/* Moves on to the run and the period of now. Cheap: before every plan. */
void wave_advance(struct wave *wave, int64_t now);
bool wave_is_stopped(const struct wave *wave);
/* "the wave of rotations is stopped: 12 of 200 failed, the first: ...": for status and plan. buffer holds WAVE_TEXT_MAX * 2; returns it. */
const char *wave_describe(const struct wave *wave, char *buffer);

/* Which steps begin something new: a key that does not exist yet, and a key that is ready and takes over. */
bool wave_counts(const struct lineage *lineage, enum plan_action action, size_t key);
/* lineage takes that step, and gives back the place that it kept. What is urgent, and what a person asked for, needs no place and takes none. */
void wave_take(struct wave *wave, struct lineage *lineage, enum plan_action action, int64_t now);
/* The begin of the run in which lineage may take that step: the present one, that of the place that it keeps, or the first one behind all places that are given away. */
int64_t wave_turn(const struct wave *wave, const struct lineage *lineage, enum plan_action action);
/* For each step of lineage that waits for want of a place: the place is lineage's from now on, and whoever comes later comes behind it. clock->wave is wave.
 * Returns whether a place was given. */
bool wave_note_late(struct wave *wave, struct lineage *lineage, const struct plan_clock *clock);

/* dkimroll was last at work at `before` (TIME_UNSET: never). If that is an absence, the turns that came meanwhile are spread over some time from now on, each
 * lineage's at a moment of its own: without max-per-run all of them would be taken in one burst. lineages: how many there are. Returns whether it is one. */
bool wave_return(struct wave *wave, int64_t before, int64_t now, int64_t lineages);

/* What an operation brought, after it was applied: before and after are the lineage. *ret_changed: the wave was stopped, or goes on; an event says so.
 * ERROR_NO_MEMORY. */
int wave_note(struct wave *wave, const struct lineage *before, const struct lineage *after, const struct outcome *outcome, int64_t now,
              struct event_list *events, bool *ret_changed, struct error *error) ERROR_USE_RESULT;
/* A person lets it go on. An event says who. *ret_changed: it was stopped. */
int wave_release(struct wave *wave, const char *who, int64_t now, struct event_list *events, bool *ret_changed, struct error *error) ERROR_USE_RESULT;

#endif
