/* Private keys and tables on a disk that can be full, read-only, fail to sync, and lose power. The production code writes real files in a real folder; the
 * simulator is linked so that the calls with which it does that (SIM_WRAPPED in the Makefile) pass through here first. What is below the folder is
 * watched: which content and which names are durable, and which would be lost with the power. A crash makes the folder what it would be afterwards.
 *
 * Rules of the model, as careless as POSIX allows:
 * - The content of a file is durable once it was synced. Until then a loss of power leaves any of: what was synced before (nothing, in a new file),
 *   what was written, or a mixture by sectors.
 * - What happened to the names of a directory is durable once the directory was synced. Until then a loss of power leaves the first n of those changes, any
 *   n; each directory has its own. A rename inside of one directory is one change. So a new name can be there before its file has any content.
 * - What a failed sync of a file should have written is lost, unless it is written again. Names wait for the next sync.
 * - Rights and owners of a file are as durable as its content, those of a directory at once.
 *
 * What others do (code of shared libraries, other processes) is not seen, and is taken for durable. One folder can be watched at a time. */
#ifndef DKIMROLL_TESTS_SIM_FILES_H
#define DKIMROLL_TESTS_SIM_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/entropy.h"

struct sim_inode;

struct sim_files {
  /* What goes wrong, until the world changes it. */
  int64_t room;         /* octets that can still be written; negative: no limit. 0 also keeps names from being made: ENOSPC */
  bool read_only;       /* EROFS */
  unsigned write_fails; /* percent of writes: EIO */
  unsigned sync_fails;  /* percent of syncs: EIO */
  uint64_t power_lasts; /* changes (octets, names, syncs) until the power is gone and each fails with EIO; 0: it stays */
  /* Counted. */
  uint64_t changes, syncs, failures, crashes, undone; /* undone: names and contents that a crash took back */
  /* What follows is the model's own. */
  char root[256];
  struct sim_inode **inodes;
  size_t count, capacity;
  bool dark, by_world;
  struct entropy_seeded random;
};

/* All that is in the folder is durable. seed: for the percentages. It must not move until the end. */
void sim_files_begin(struct sim_files *files, const char *root, uint64_t seed);
/* Nothing is watched any more; the folder stays. */
void sim_files_end(struct sim_files *files);

/* The process ends here and now; what it did is there. */
void sim_files_kill(struct sim_files *files);
/* The power goes, and with it the process: its descriptors must not be used any more. Which of the possible outcomes it is says seed. */
void sim_files_crash(struct sim_files *files, uint64_t seed);
/* Has power_lasts run out? The owner then crashes it. */
bool sim_files_are_dark(const struct sim_files *files);

/* Between both calls the world writes (an operator, a package): nothing fails, and all is durable at the end. */
void sim_files_world_begin(struct sim_files *files);
void sim_files_world_end(struct sim_files *files);

/* ---- between sim_files.c and sim_file_calls.c ---- */

/* The folder that is watched; NULL: none. */
struct sim_files *sim_files_watched(void);

/* One change of a directory: a name goes, a name is given to an inode, or both (a rename). */
struct sim_names_change {
  char *removed, *set; /* NULL: none */
  struct sim_inode *inode;
};

/* May a change happen? 0, or an errno. names: it needs room for a name. */
int sim_files_permit(struct sim_files *files, bool names);
bool sim_files_chance(struct sim_files *files, unsigned percent);
struct sim_inode *sim_files_inode_of(struct sim_files *files, int descriptor);                   /* NULL: not below the folder */
struct sim_inode *sim_files_inode_at(struct sim_files *files, int directory, const char *name);  /* of that name; NULL: none, or not watched */
struct sim_inode *sim_files_inode_linked(struct sim_files *files, int directory, const char *name, bool follow);
/* The directory that holds path. */
struct sim_inode *sim_files_parent_at(struct sim_files *files, int directory, const char *path);
/* A name that is new in parent has been made. */
struct sim_inode *sim_files_made(struct sim_files *files, struct sim_inode *parent, int directory, const char *path);
/* A file without a name has been made. */
void sim_files_opened(struct sim_files *files, int descriptor);
void sim_files_changed(struct sim_files *files, struct sim_inode *parent, const char *removed, const char *set, struct sim_inode *inode);
void sim_files_written(struct sim_files *files, struct sim_inode *inode);
void sim_files_synced(struct sim_files *files, struct sim_inode *inode, int descriptor, bool failed);

#endif
