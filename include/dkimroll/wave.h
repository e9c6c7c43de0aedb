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
};

struct wave {
  struct policy_limits limits;
  /* The run that is counted, by its begin. */
  int64_t run;
  unsigned begun, switched;         /* lineages that began a new key, or to take over */
  unsigned late_begun, late_switched; /* that were put off to later runs */
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
/* lineage takes that step. */
void wave_take(struct wave *wave, enum plan_action action, int64_t now);
/* If plan was put off for want of a place in the present run, the next one that is put off comes behind it. */
void wave_note_late(struct wave *wave, const struct plan *plan);

/* What an operation brought, after it was applied: before and after are the lineage. *ret_changed: the wave was stopped, or goes on; an event says so.
 * ERROR_NO_MEMORY. */
int wave_note(struct wave *wave, const struct lineage *before, const struct lineage *after, const struct outcome *outcome, int64_t now,
              struct event_list *events, bool *ret_changed, struct error *error) ERROR_USE_RESULT;
/* A person lets it go on. An event says who. *ret_changed: it was stopped. */
int wave_release(struct wave *wave, const char *who, int64_t now, struct event_list *events, bool *ret_changed, struct error *error) ERROR_USE_RESULT;

#endif
