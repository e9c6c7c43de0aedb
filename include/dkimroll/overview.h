/* One look at all that the store knows, in pages, because it may be of a million domains and the loop has other work: what metrics are made of, and what needs a
 * person. */
#ifndef DKIMROLL_OVERVIEW_H
#define DKIMROLL_OVERVIEW_H

#include "dkimroll/findings.h"
#include "dkimroll/metrics.h"
#include "dkimroll/session.h"

enum { OVERVIEW_PAGE = 200 }; /* lineages of one page: some milliseconds */

/* Told of each lineage, with what is wrong with it. */
typedef void overview_callback(void *context, const struct lineage *lineage, const struct findings *problems);

struct overview {
  struct session *session; /* borrowed; its store is open */
  struct plan_clock clock;
  int64_t next;            /* TIME_UNSET: the policy is not as it was compiled */
  struct store_policy_stamp stamp;
  struct findings findings; /* of all lineages */
  struct metrics *metrics;
  overview_callback *callback; /* NULL: none */
  void *context;
  /* The last lineage that was looked at. */
  char domain[DNS_NAME_TEXT_SIZE], slot[SELECTOR_SIZE];
};

/* callback may be NULL. Release also after an error. */
int overview_begin(struct overview *ret_overview, struct session *session, overview_callback *callback, void *context, struct error *error) ERROR_USE_RESULT;
/* Looks at the next lineages. *ret_more: there are others. */
int overview_page(struct overview *overview, bool *ret_more, struct error *error) ERROR_USE_RESULT;
/* After the last page: the metrics; the caller releases *ret_text. */
int overview_finish(struct overview *overview, int64_t run_at, struct buffer *ret_text, struct error *error) ERROR_USE_RESULT;
void overview_release(struct overview *overview);

/* Puts the metrics where node_exporter reads them: atomically, for everybody to read. A link is followed. */
int metrics_file_write(const char *path, const struct buffer *text, struct error *error) ERROR_USE_RESULT;
/* The file tells of a run at moment run_at, and of nothing else that is new. ERROR_NOT_FOUND: there is none of ours. */
int metrics_file_touch(const char *path, int64_t run_at, struct error *error) ERROR_USE_RESULT;

#endif
