/* What turn.c, operation.c and the stages share. Internal to src/engine. */
#ifndef DKIMROLL_ENGINE_INTERNAL_H
#define DKIMROLL_ENGINE_INTERNAL_H

#include "dkimroll/engine.h"
#include "dkimroll/engine_clock.h"

struct operation;

/* One lineage in hand, from its claim to the commit of its outcome. */
struct work {
  struct lineage lineage;
  enum plan_action action;
  size_t key;
  struct work *next; /* in a queue */
};

/* One stage: how a kind of action is carried out. */
struct stage {
  const char *name;
  size_t batch_maximum;
  int64_t seconds; /* deadline of one operation */
  size_t parallel; /* operations of this stage on one resource at once */
  /* Starts the work of operation; ends it, later, by operation_finish. An error from here is the error of every item. */
  int (*start)(struct operation *operation, struct error *error);
  /* Frees what operation->state owns, if it owns anything; state may be NULL. After the commit, because outcomes borrow from it. */
  void (*free_state)(struct operation *operation);
};

/* Works of one stage for one resource that wait for it. */
struct queue {
  const struct stage *stage;
  int64_t resource; /* row of the publisher version; 0 for stages whose resource is the whole host */
  struct work *first, *last;
  size_t waiting;
  size_t open; /* operations under way */
};

struct operation {
  struct engine *engine;
  struct queue *queue;
  const struct stage *stage; /* outlives the queue, as an abandoned operation does */
  struct work **works; /* owned */
  size_t count;
  int64_t deadline; /* boottime, milliseconds */
  struct outcome *outcomes; /* count of them; error pointers refer to errors[] */
  struct error *errors;
  /* State of the stage; release() cancels what it has under way, then free() takes the memory. */
  void *state;
  void *items, *borrowed; /* what was handed to back ends, which borrow it; free() */
  struct loop_source *later;
  void (*release)(struct operation *operation);
  size_t keeper_calls;  /* not answered yet */
  bool clock_known;     /* the publisher's server told its time, ahead of ours by ... */
  int64_t clock_skew;   /* ... seconds */
  bool abandoned;       /* the engine is gone; freed with the last keeper call */
  struct operation *previous, *next; /* among the engine's open ones */
};

/* A keeper job for item i. done is called with the answer, unless the operation was abandoned. result->code 0: reply is valid. */
typedef void operation_keeper_done(struct operation *operation, size_t i, const struct error *result, const uint8_t *reply, size_t reply_size);
int operation_submit(struct operation *operation, size_t i, enum keeper_job job, struct buffer *payload, operation_keeper_done *done,
                     struct error *error) ERROR_USE_RESULT;

struct engine_publisher {
  int64_t id;
  struct publisher *publisher;
};
struct engine_signer {
  int64_t id;
  struct signer *signer;
};

/* Back-off of one publisher's server, or of one signer. */
enum resource_kind { RESOURCE_PUBLISHER = 0, RESOURCE_SIGNER = 1 };
struct engine_resource {
  enum resource_kind kind;
  int64_t id;        /* row of the version of the publisher or signer */
  unsigned failures; /* operations in a row that reached nobody */
  int64_t retry_at;
  bool probing;      /* SIGNER: the step that finds out whether it is back is on its way */
  bool changed;      /* not stored yet */
  char name[96];     /* of its row: "signer 3 local" */
  char failure[ERROR_MESSAGE_MAX];
};
enum {
  ENGINE_RESOURCES_MAX = ENGINE_PUBLISHERS_MAX + ENGINE_SIGNERS_MAX,
  ENGINE_RESOURCE_ROWS_MAX = 16, /* stored with one commit; the rest with the next */
};

/* The tables of one signer, or of several that share them, and what is known of them (inspect.c). */
struct engine_tables {
  struct engine *engine;
  int64_t signer_id; /* row of a version that has them */
  const struct policy_signer *policy; /* borrowed from the store */
  char digest[SIGNER_DIGEST_SIZE], state[SIGNER_STATE_SIZE];
  int64_t changed_at;
  int64_t woken;
  struct signer *signer; /* at work now */
  struct signer_operation *looking;
  bool ours;  /* an operation of ours may have written them: what is seen next is what we wrote */
  bool again; /* and another look is wanted after the present one */
};

struct engine {
  struct engine_setup setup;
  struct engine_tables tables[ENGINE_SIGNERS_MAX];
  size_t tables_count;
  size_t looks; /* under way */
  int64_t looked_at; /* boottime, milliseconds: when all tables were last looked at; 0 never */
  struct engine_resource resources[ENGINE_RESOURCES_MAX];
  size_t resource_count;
  struct queue *queues; /* QUEUES_MAX of them, by stage and resource */
  size_t queue_count;
  struct operation *operations;
  size_t open_operations;
  size_t works; /* claimed and not committed */
  struct loop_source *timer;
  struct loop_source *parking; /* ends a stop that takes too long */
  bool stopping;
  bool turn_wanted;
  struct error failure; /* ends the run */
  struct error keeper_failure; /* the keeper is gone: ends the run once the outcomes that told so are stored */
  struct store_clock clock;
  struct plan_clock plan_clock;
  struct wave wave;
  bool wave_changed;  /* since the last commit */
  int64_t away_since; /* nothing was done from then until now, which is longer than any pause of who is at work; TIME_UNSET */
  int64_t wave_waits; /* who waits for that moment is woken with the next commit, because the wave goes on; TIME_UNSET nobody */
  bool clock_went_back; /* what the store has planned by a later clock is to be planned anew, with the next commit */
  int64_t started; /* boottime, milliseconds: the horizon is no matter of the wall clock, which may be set meanwhile */
  char boot_stand_in[CLOCK_BOOT_ID_SIZE]; /* where the kernel does not tell the boot's id: this process lives in one boot */
  struct publisher_source source; /* what publishers may ask the store for */
  struct engine_publisher publishers[ENGINE_PUBLISHERS_MAX];
  size_t publisher_count;
  struct engine_signer signers[ENGINE_SIGNERS_MAX];
  size_t signer_count;
  struct engine_summary summary;
};

enum { ENGINE_QUEUES_MAX = 2048 };

/* Back-off of resources (resource.c). */
int engine_load_resources(struct engine *engine, struct error *error) ERROR_USE_RESULT;
/* Is the step's server, or are all its signers, to be left alone for now? *ret_moment: when the lineage comes back. */
bool engine_resource_puts_off(struct engine *engine, enum plan_action action, const struct lineage *lineage, size_t key, int64_t *ret_moment);
/* How many items may go at once: one, while nobody knows whether the server is back. */
size_t engine_resource_batch(struct engine *engine, const struct queue *queue);
/* What a signer answered to its part of an operation. */
void engine_note_signer(struct engine *engine, int64_t id, const struct policy_signer *policy, const struct signer_result *results, size_t count);
/* What an operation, which has ended, tells of its resources: rows to be stored, whose texts are borrowed until the next operation ends. Returns their number. */
size_t engine_resource_note(const struct operation *operation, struct store_resource rows[ENGINE_RESOURCE_ROWS_MAX]);
/* Those that changed since they were stored. */
size_t engine_resource_rows(struct engine *engine, struct store_resource rows[ENGINE_RESOURCE_ROWS_MAX]);
/* Somebody asked for lineage: the next item probes its resources at once. */
void engine_resource_wake(struct engine *engine, const struct lineage *lineage);
/* All of them: the clock went back, or a person says that the wave goes on. */
void engine_resources_wake(struct engine *engine);
/* After a probe that failed, those that wait in the queue are put off too. */
int engine_put_off_waiting(struct engine *engine, struct queue *queue, struct error *error) ERROR_USE_RESULT;

/* Waves (wave.c). */
int engine_load_wave(struct engine *engine, struct error *error) ERROR_USE_RESULT;
/* Before anything is planned by a new clock. */
void engine_wave_advance(struct engine *engine);
/* After an absence: what became due meanwhile is spread from now on, and an event says so. */
int engine_wave_return(struct engine *engine, struct event_list *events, struct error *error) ERROR_USE_RESULT;
/* What a plan came to: put off, or taken. */
void engine_wave_planned(struct engine *engine, struct lineage *lineage);
void engine_wave_taken(struct engine *engine, struct lineage *lineage, enum plan_action action, size_t key);
int engine_wave_note(struct engine *engine, const struct lineage *before, const struct lineage *after, const struct outcome *outcome,
                     struct event_list *events, struct error *error) ERROR_USE_RESULT;
int engine_wave_release(struct engine *engine, const char *who, struct event_list *events, struct error *error) ERROR_USE_RESULT;
/* What of it goes into a commit; and after the commit. */
void engine_wave_commit(struct engine *engine, struct store_commit *commit);
void engine_wave_committed(struct engine *engine);

/* Operations (operation.c). */
/* The row of the publisher that an action needs to itself; 0 for stages whose resource is the whole host. */
int64_t stage_resource(enum plan_action action, const struct lineage *lineage, size_t key);
struct work *queue_take(struct queue *queue); /* NULL: empty */
void queue_put(struct queue *queue, struct work *work);
const struct stage *stage_for(enum plan_action action);
int engine_enqueue(struct engine *engine, struct work *work, struct error *error) ERROR_USE_RESULT;
/* Starts what can be started. An operation that cannot even start ends with its error for every item. */
void engine_start_operations(struct engine *engine);
/* For stages that could end at once: calls begin(operation) from the loop, because start must not finish an operation itself. */
int operation_begin_later(struct operation *operation, loop_callback *begin, struct error *error) ERROR_USE_RESULT;
/* Item i is finished; by default it succeeds at the time of operation_finish. */
void operation_fail(struct operation *operation, size_t i, const struct error *error);
/* All items have their outcomes: applies and commits them. operation is gone afterwards. */
void operation_finish(struct operation *operation);
struct key *operation_key(const struct operation *operation, size_t i);

/* Where key (NULL: none) is at a signer of that name; NULL: not there. And the name of its entry in KeyTable, by the version of the signer that it was placed with; caller
 * frees, NULL: not there, or out of memory, and then the policy's name has to do. (backends.c) */
const struct placement *key_placement_at(const struct key *key, const struct policy_signer *signer);
char *key_name_at(const struct lineage *lineage, const struct key *key, const struct policy_signer *signer);

/* Cancels all; outcomes are lost, intents stay open in the store. */
void engine_abandon_operations(struct engine *engine);

/* Requests (requests.c): carries out what other processes wrote down, for lineages that are not in hand. *ret_more: some may be left that could be
 * carried out at once. */
int engine_execute_requests(struct engine *engine, bool *ret_more, struct error *error) ERROR_USE_RESULT;
/* The earliest next_moment among setup.domains. */
int engine_next_of_domains(struct engine *engine, int64_t *ret_next, struct error *error) ERROR_USE_RESULT;
/* Lineages in hand: ids has room for engine->works of them. Returns their number. */
size_t engine_collect_in_hand(const struct engine *engine, int64_t *ids);
bool engine_has_in_hand(const struct engine *engine, int64_t lineage_id);

/* Whether others have changed the tables that signers read (inspect.c). Starts a look at all of them if it is time; works are planned after the first. */
int engine_inspect(struct engine *engine, struct error *error) ERROR_USE_RESULT;
/* After an operation that may have written tables: they are stamped as ours. */
void engine_inspect_ours(struct engine *engine, const struct operation *operation);
/* Makes a bounded number of lineages due whose tables were changed. *ret_more: others are left. */
int engine_wake_changed(struct engine *engine, bool *ret_more, struct error *error) ERROR_USE_RESULT;
/* Tells lineage when tables of its signers were changed. */
void engine_tell_changes(const struct engine *engine, struct lineage *lineage);
void engine_release_looks(struct engine *engine);

/* Turns (turn.c). */
void engine_want_turn(struct engine *engine);
void engine_fail(struct engine *engine, const struct error *error);
void engine_read_clock(struct engine *engine, struct event_list *events);
void engine_tell(struct engine *engine, const struct event_list *events);
void work_free(struct work *work);

/* Back ends by row (backends.c), made on demand. */
int engine_find_publisher(struct engine *engine, int64_t id, const struct policy_publisher *policy, struct publisher **ret_publisher,
                          struct error *error) ERROR_USE_RESULT;
int engine_find_signer(struct engine *engine, int64_t id, const struct policy_signer *policy, struct signer **ret_signer,
                       struct error *error) ERROR_USE_RESULT;
void engine_release_backends(struct engine *engine);
/* Where key's record is undone: at the version of the publisher that it was made with, because the policy may name another server by now; but where only the secret
 * has moved since, by the present one, since the old may be gone. */
int64_t lineage_undoing_publisher(const struct lineage *lineage, const struct key *key);
/* The version of that row that lineage or one of its keys uses; its own where none has that row. */
const struct policy_publisher *lineage_publisher(const struct lineage *lineage, int64_t id);

/* Observation of a batch, shared by stages: fills *ret_items (caller frees) for the works. */
struct observe_item *operation_observe_items(const struct operation *operation, enum observe_kind kind);
/* Takes over one observation into outcome; reports is caller-owned memory of server_count entries. */
void outcome_take_sightings(struct outcome *outcome, const struct observe_result *result, struct sighting_report *reports);

/* The same with an array of its own in *ret_reports (caller frees); the strings stay the observer's. An error where the observation tells nothing. */
int outcome_take_observation(struct outcome *outcome, const struct observe_result *result, struct sighting_report **ret_reports,
                             struct error *error) ERROR_USE_RESULT;

/* Sightings that outlive the observer's result, which ends with its callback: the outcome is applied later. */
struct kept_sightings {
  struct sighting_report *reports;
  char *strings; /* what they point to */
};
void kept_sightings_release(struct kept_sightings *kept);
/* Takes over one observation of a record that must be there for good. An error where it tells nothing, or where a server is not right (ERROR_CONFLICT, after the
 * sightings were taken over). */
int outcome_take_presence(struct outcome *outcome, const struct observe_result *result, const char *selector, struct kept_sightings *ret_kept,
                          struct error *error) ERROR_USE_RESULT;

/* Whether the answer of KEEPER_READ_PUBLIC or KEEPER_COPY is of the private key to which key's record belongs. ERROR_CONFLICT: of another. */
int key_check_file(const struct key *key, const struct error *result, const uint8_t *reply, size_t size, struct error *error) ERROR_USE_RESULT;

/* Whether a signer's tables still name the key of that placement. */
bool placement_wants_withdrawal(const struct placement *placement);

extern const struct stage stage_generate, stage_publish, stage_confirm, stage_confirm_absent, stage_activate, stage_repair, stage_prove, stage_withdraw,
    stage_destroy, stage_check_files;

#endif
