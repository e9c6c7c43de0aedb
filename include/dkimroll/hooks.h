/* Hooks: the commands of the policy that are told what happens, called by the runner (runner.h), one after the other. What each is told, by its last argument, its
 * environment and its stdin, is in dkimroll(8). A hook is called at least once for what it is to be told: the store remembers how far that went, so that a crash repeats the last
 * call and loses none. How it ends changes nothing but the log. */
#ifndef DKIMROLL_HOOKS_H
#define DKIMROLL_HOOKS_H

#include "dkimroll/runner.h"
#include "dkimroll/session.h"

enum {
  HOOKS_BACKLOG_MAX = 100,    /* transitions that are told one by one; more at once are told as a number: a wave of a thousand domains is no thousand mails */
  HOOKS_CALLS_MAX = 21,       /* of needs-person that wait: those of one look (alarms.h) */
  HOOKS_WAIT_SECONDS = 60,    /* how long a call may wait for a free worker of the runner, which publishers use as well */
  HOOKS_LINES_MAX = 20,       /* of output that go into the log for each call */
  HOOKS_TEXT_MAX = 8192,
};

struct hooks;

/* One call of needs-person. Texts are borrowed until done, which comes once, whatever came of it. */
struct hooks_alarm {
  const char *word;   /* "begins", "lasts", "over" */
  const char *domain; /* NULL: about none */
  size_t others;      /* further domains with the same */
  int64_t since;
  const char *reason;
  const char *remedy; /* NULL or "": none */
  void (*done)(void *context, size_t index, bool succeeded);
  void *context;
  size_t index;
};

/* *ret_hooks NULL: the policy names none, and what the store remembers of hooks is forgotten. Begins with what happens from now on, if there were no hooks before. */
int hooks_new(struct session *session, struct hooks **ret_hooks, struct error *error) ERROR_USE_RESULT;
/* All of these take NULL. Events were committed. */
void hooks_wake(struct hooks *hooks);
bool hooks_has_alarms(const struct hooks *hooks); /* needs-person is given */
/* false: HOOKS_CALLS_MAX wait already; done does not come. */
bool hooks_tell(struct hooks *hooks, const struct hooks_alarm *alarm);
/* Waits until everything is told, but at most so many milliseconds, or until loop_stop. */
void hooks_drain(struct hooks *hooks, int64_t patience);
/* A call that is under way goes on without being heard. */
void hooks_free(struct hooks *hooks);
/* For a run that has nothing else to do: is there something to be told? */
bool hooks_are_behind(struct session *session, int64_t now);

#endif
