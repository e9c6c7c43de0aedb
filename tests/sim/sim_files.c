#include "sim_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/text.h"

enum { SECTOR = 512, PATH_SIZE = 512 };

struct sim_entry_of_directory {
  char *name;
  struct sim_inode *inode;
};

/* What a file is after a loss of power. */
struct sim_content {
  char *octets;
  size_t size;
};

/* A file or directory that is, or was, below the folder. */
struct sim_inode {
  dev_t device;
  ino_t number; /* 0: the number may be another's by now */
  mode_t mode;
  uid_t owner;
  gid_t group;
  /* A file. */
  struct sim_content durable;
  bool dirty;   /* written since the last sync */
  bool touched; /* by the world */
  /* A directory: its durable names, and what happened since its last sync. */
  struct sim_entry_of_directory *names;
  size_t name_count;
  struct sim_names_change *changes;
  size_t change_count;
  /* While a crash is made. */
  char place[PATH_SIZE];
  bool placed;
};

static struct sim_files *watched;

/* Called for each name in a directory. */
typedef void name_callback(struct sim_files *files, struct sim_inode *directory, const char *name, const char *path);

static void *must(void *pointer) {
  if (!pointer) abort();
  return pointer;
}

struct sim_files *sim_files_watched(void) {
  return watched;
}

/* ---- inodes ---- */

static struct sim_inode *find_inode(const struct sim_files *files, const struct stat *status) {
  for (size_t i = files->count; i-- > 0;)
    if (files->inodes[i]->number == status->st_ino && files->inodes[i]->device == status->st_dev) return files->inodes[i];
  return NULL;
}

static void note_status(struct sim_inode *inode, const struct stat *status) {
  inode->device = status->st_dev;
  inode->number = status->st_ino;
  inode->mode = status->st_mode;
  inode->owner = status->st_uid;
  inode->group = status->st_gid;
}

static struct sim_inode *add_inode(struct sim_files *files, const struct stat *status) {
  struct sim_inode *old = find_inode(files, status);
  if (old) old->number = 0;
  if (files->count == files->capacity) {
    files->capacity = files->capacity ? files->capacity * 2 : 64;
    files->inodes = must(realloc(files->inodes, files->capacity * sizeof *files->inodes));
  }
  struct sim_inode *inode = must(calloc(1, sizeof *inode));
  note_status(inode, status);
  files->inodes[files->count++] = inode;
  return inode;
}

static void read_octets(int descriptor, struct sim_content *content) {
  struct stat status;
  if (fstat(descriptor, &status) < 0) abort();
  content->octets = must(realloc(content->octets, (size_t)status.st_size + 1));
  content->size = 0;
  for (ssize_t got; content->size < (size_t)status.st_size; content->size += (size_t)got) {
    got = pread(descriptor, content->octets + content->size, (size_t)status.st_size - content->size, (off_t)content->size);
    if (got <= 0) break;
  }
}

/* By path, since a descriptor may be for writing only. */
static void read_content(const char *path, struct sim_content *content) {
  const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (descriptor < 0) abort();
  read_octets(descriptor, content);
  close(descriptor);
}

static void read_descriptor(int descriptor, struct sim_content *content) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
  const int again = open(path, O_RDONLY | O_CLOEXEC);
  if (again < 0) abort();
  read_octets(again, content);
  close(again);
}

struct sim_inode *sim_files_inode_of(struct sim_files *files, int descriptor) {
  struct stat status;
  return fstat(descriptor, &status) == 0 ? find_inode(files, &status) : NULL;
}

struct sim_inode *sim_files_inode_at(struct sim_files *files, int directory, const char *name) {
  struct stat status;
  return fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 ? find_inode(files, &status) : NULL;
}

struct sim_inode *sim_files_inode_linked(struct sim_files *files, int directory, const char *name, bool follow) {
  struct stat status;
  return fstatat(directory, name, &status, follow ? 0 : AT_SYMLINK_NOFOLLOW) == 0 ? find_inode(files, &status) : NULL;
}

void sim_files_opened(struct sim_files *files, int descriptor) {
  struct stat status;
  if (fstat(descriptor, &status) == 0) add_inode(files, &status)->touched = files->by_world;
}

struct sim_inode *sim_files_parent_at(struct sim_files *files, int directory, const char *path) {
  char parent[PATH_SIZE];
  struct stat status;
  const char *slash = strrchr(path, '/');
  if (slash == path)
    text_copy(parent, sizeof parent, "/");
  else
    snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
  return fstatat(directory, parent, &status, 0) == 0 ? find_inode(files, &status) : NULL;
}

/* ---- names ---- */

static void set_name(struct sim_inode *directory, const char *name, struct sim_inode *inode) {
  for (size_t i = 0; i < directory->name_count; i++) {
    if (!text_equal(directory->names[i].name, name)) continue;
    if (inode) {
      directory->names[i].inode = inode;
    } else {
      free(directory->names[i].name);
      directory->names[i] = directory->names[--directory->name_count];
    }
    return;
  }
  if (!inode) return;
  directory->names = must(realloc(directory->names, (directory->name_count + 1) * sizeof *directory->names));
  directory->names[directory->name_count++] = (struct sim_entry_of_directory){must(text_duplicate(name)), inode};
}

static struct sim_inode *find_name(const struct sim_inode *directory, const char *name) {
  for (size_t i = 0; i < directory->name_count; i++)
    if (text_equal(directory->names[i].name, name)) return directory->names[i].inode;
  return NULL;
}

/* The first n changes become durable, all others are as if they had not been. */
static void settle_names(struct sim_inode *directory, size_t n) {
  for (size_t i = 0; i < directory->change_count; i++) {
    struct sim_names_change *change = &directory->changes[i];
    if (i < n && change->removed) set_name(directory, change->removed, NULL);
    if (i < n && change->set) set_name(directory, change->set, change->inode);
    free(change->removed);
    free(change->set);
  }
  directory->change_count = 0;
}

static char *last_part(const char *path) {
  const char *slash = path ? strrchr(path, '/') : NULL;
  return path ? must(text_duplicate(slash ? slash + 1 : path)) : NULL;
}

void sim_files_changed(struct sim_files *files, struct sim_inode *parent, const char *removed, const char *set, struct sim_inode *inode) {
  parent->changes = must(realloc(parent->changes, (parent->change_count + 1) * sizeof *parent->changes));
  parent->changes[parent->change_count++] = (struct sim_names_change){last_part(removed), last_part(set), inode};
  if (files->by_world) settle_names(parent, parent->change_count);
}

struct sim_inode *sim_files_made(struct sim_files *files, struct sim_inode *parent, int directory, const char *path) {
  struct stat status;
  if (fstatat(directory, path, &status, AT_SYMLINK_NOFOLLOW) < 0) abort();
  struct sim_inode *inode = add_inode(files, &status);
  inode->touched = files->by_world;
  sim_files_changed(files, parent, NULL, path, inode);
  return inode;
}

/* ---- content ---- */

void sim_files_written(struct sim_files *files, struct sim_inode *inode) {
  inode->dirty = true;
  inode->touched |= files->by_world;
}

void sim_files_synced(struct sim_files *files, struct sim_inode *inode, int descriptor, bool failed) {
  struct stat status;
  files->syncs++;
  files->failures += failed;
  if (S_ISDIR(inode->mode)) {
    if (!failed) settle_names(inode, inode->change_count);
    return;
  }
  if (!failed && inode->dirty) read_descriptor(descriptor, &inode->durable);
  if (!failed && fstat(descriptor, &status) == 0) note_status(inode, &status);
  inode->dirty = false;
}

int sim_files_permit(struct sim_files *files, bool names) {
  if (files->by_world) return 0;
  if (files->power_lasts && --files->power_lasts == 0) files->dark = true;
  if (files->dark) return EIO;
  files->changes++;
  const int failure = files->read_only ? EROFS : names && files->room == 0 ? ENOSPC : 0;
  files->failures += failure != 0;
  return failure;
}

bool sim_files_chance(struct sim_files *files, unsigned percent) {
  return percent > 0 && entropy_below(&files->random.entropy, 100) < percent;
}

/* ---- the folder as it is ---- */

/* In alphabetic order, so that what is done with the names does not depend on the file system. */
static void for_each_name(struct sim_files *files, struct sim_inode *directory, const char *path, name_callback *callback) {
  struct dirent **entries = NULL;
  const int count = scandir(path, &entries, NULL, alphasort);
  if (count < 0) abort();
  for (int i = 0; i < count; i++) {
    char place[PATH_SIZE];
    const char *name = entries[i]->d_name;
    if (snprintf(place, sizeof place, "%s/%s", path, name) >= (int)sizeof place) abort();
    if (!text_equal(name, ".") && !text_equal(name, "..")) callback(files, directory, name, place);
    free(entries[i]);
  }
  free(entries);
}

static void adopt_name(struct sim_files *files, struct sim_inode *directory, const char *name, const char *path);

/* A name that the model has not seen: it is durable. */
static struct sim_inode *adopt_one(struct sim_files *files, const char *path) {
  struct stat status;
  if (lstat(path, &status) < 0) return NULL;
  struct sim_inode *inode = find_inode(files, &status);
  if (inode) return inode;
  inode = add_inode(files, &status);
  if (S_ISREG(status.st_mode)) read_content(path, &inode->durable);
  if (S_ISDIR(status.st_mode)) for_each_name(files, inode, path, adopt_name);
  return inode;
}

static void adopt_name(struct sim_files *files, struct sim_inode *directory, const char *name, const char *path) {
  struct sim_inode *inode = adopt_one(files, path);
  if (inode) set_name(directory, name, inode);
}

void sim_files_begin(struct sim_files *files, const char *root, uint64_t seed) {
  *files = (struct sim_files){.room = -1};
  if (watched || !text_copy(files->root, sizeof files->root, root)) abort();
  entropy_seed(&files->random, seed);
  if (!adopt_one(files, root)) abort();
  watched = files;
}

static void free_inode(struct sim_inode *inode) {
  settle_names(inode, 0);
  for (size_t i = 0; i < inode->name_count; i++) free(inode->names[i].name);
  free(inode->names);
  free(inode->changes);
  free(inode->durable.octets);
  free(inode);
}

void sim_files_end(struct sim_files *files) {
  watched = NULL;
  for (size_t i = 0; i < files->count; i++) free_inode(files->inodes[i]);
  free(files->inodes);
  files->inodes = NULL;
  files->count = files->capacity = 0;
}

bool sim_files_are_dark(const struct sim_files *files) {
  return files->dark;
}

void sim_files_world_begin(struct sim_files *files) {
  files->by_world = true;
}

/* ---- the loss of power ---- */

/* Finds where each inode is now, and takes what is unknown for durable. */
static void locate(struct sim_files *files, struct sim_inode *directory, const char *name, const char *path) {
  struct stat status;
  if (lstat(path, &status) < 0) return;
  struct sim_inode *inode = find_inode(files, &status);
  if (!inode) {
    adopt_name(files, directory, name, path);
    return;
  }
  memcpy(inode->place, path, strlen(path) + 1);
  inode->placed = true;
  if (!S_ISDIR(status.st_mode)) return;
  note_status(inode, &status);
  for_each_name(files, inode, path, locate);
}

static void mix(struct sim_content *durable, const struct sim_content *present, struct entropy *entropy) {
  durable->octets = must(realloc(durable->octets, present->size + 1));
  if (present->size > durable->size) memset(durable->octets + durable->size, 0, present->size - durable->size);
  for (size_t at = 0; at < present->size; at += SECTOR)
    if (entropy_below(entropy, 2)) memcpy(durable->octets + at, present->octets + at, present->size - at < SECTOR ? present->size - at : SECTOR);
  durable->size = present->size;
}

/* What is left of content that was not synced. Of a file without a name nothing was, but what was synced before. */
static void lose_content(struct sim_files *files, struct sim_inode *inode, struct entropy *entropy) {
  struct sim_content present = {0};
  const uint32_t fate = entropy_below(entropy, 4);
  files->undone += fate != 1 || !inode->placed;
  if (!inode->placed || fate == 0) return;
  read_content(inode->place, &present);
  if (fate == 1) {
    free(inode->durable.octets);
    inode->durable = present;
    return;
  }
  mix(&inode->durable, &present, entropy);
  free(present.octets);
}

static void lose_contents(struct sim_files *files, struct entropy *entropy) {
  for (size_t i = 0; i < files->count; i++) {
    if (files->inodes[i]->dirty) lose_content(files, files->inodes[i], entropy);
    files->inodes[i]->dirty = false;
  }
}

static void lose_names(struct sim_files *files, struct sim_inode *directory, struct entropy *entropy) {
  const size_t count = directory->change_count;
  const uint32_t fate = entropy_below(entropy, 4);
  const size_t kept = fate == 0 ? 0 : fate == 1 ? count : entropy_below(entropy, (uint32_t)count + 1);
  files->undone += count - kept;
  settle_names(directory, kept);
}

/* ---- the folder as it would be ---- */

static void remove_all(struct sim_files *files, struct sim_inode *directory, const char *name, const char *path) {
  struct stat status;
  if (lstat(path, &status) < 0) return;
  if (S_ISDIR(status.st_mode)) for_each_name(files, directory, path, remove_all);
  if (remove(path) < 0) abort();
  (void)name;
}

static void write_file(struct sim_inode *inode, const char *path) {
  const int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  struct stat status;
  if (descriptor < 0) abort();
  for (size_t done = 0; done < inode->durable.size;) {
    const ssize_t written = write(descriptor, inode->durable.octets + done, inode->durable.size - done);
    if (written < 0) abort();
    done += (size_t)written;
  }
  if (fchown(descriptor, inode->owner, inode->group) < 0 || fchmod(descriptor, inode->mode & 07777) < 0 || fstat(descriptor, &status) < 0) abort();
  close(descriptor);
  note_status(inode, &status);
}

static void put(struct sim_inode *inode, const char *path) {
  struct stat status;
  if (inode->placed && !S_ISDIR(inode->mode)) {
    if (link(inode->place, path) < 0) abort();
  } else if (S_ISDIR(inode->mode)) {
    if (mkdir(path, 0700) < 0 || chmod(path, inode->mode & 07777) < 0 || chown(path, inode->owner, inode->group) < 0 || stat(path, &status) < 0) abort();
    note_status(inode, &status);
  } else if (S_ISREG(inode->mode)) {
    write_file(inode, path);
  }
}

/* Is the name there, for that very inode, with its content? */
static bool is_right(const struct sim_inode *inode, const char *path) {
  struct stat status;
  if (lstat(path, &status) < 0 || status.st_ino != inode->number || status.st_dev != inode->device) return false;
  if (!S_ISREG(status.st_mode)) return true;
  struct sim_content present = {0};
  read_content(path, &present);
  const bool right = present.size == inode->durable.size && (present.size == 0 || memcmp(present.octets, inode->durable.octets, present.size) == 0);
  free(present.octets);
  return right;
}

static void remove_other(struct sim_files *files, struct sim_inode *directory, const char *name, const char *path) {
  const struct sim_inode *inode = find_name(directory, name);
  if (!inode || !is_right(inode, path)) remove_all(files, directory, name, path);
}

static void rebuild(struct sim_files *files, struct sim_inode *directory, const char *path) {
  for_each_name(files, directory, path, remove_other);
  for (size_t i = 0; i < directory->name_count; i++) {
    struct sim_inode *inode = directory->names[i].inode;
    char place[PATH_SIZE];
    struct stat status;
    snprintf(place, sizeof place, "%s/%s", path, directory->names[i].name);
    if (lstat(place, &status) < 0) put(inode, place);
    memcpy(inode->place, place, sizeof place);
    inode->placed = true;
    if (S_ISDIR(inode->mode)) rebuild(files, inode, place);
  }
}

/* Frees what no name leads to any more. */
static void collect(struct sim_files *files) {
  size_t kept = 0;
  for (size_t i = 0; i < files->count; i++) {
    if (files->inodes[i]->placed)
      files->inodes[kept++] = files->inodes[i];
    else
      free_inode(files->inodes[i]);
  }
  files->count = kept;
}

static struct sim_inode *find_root(const struct sim_files *files) {
  struct stat status;
  return must(stat(files->root, &status) == 0 ? find_inode(files, &status) : NULL);
}

static void forget_places(struct sim_files *files) {
  for (size_t i = 0; i < files->count; i++) files->inodes[i]->placed = false;
}

void sim_files_kill(struct sim_files *files) {
  files->dark = false;
  files->power_lasts = 0;
}

void sim_files_crash(struct sim_files *files, uint64_t seed) {
  struct entropy_seeded choice;
  entropy_seed(&choice, seed);
  watched = NULL;
  forget_places(files);
  for_each_name(files, find_root(files), files->root, locate);
  lose_contents(files, &choice.entropy);
  for (size_t i = 0; i < files->count; i++)
    if (files->inodes[i]->change_count > 0) lose_names(files, files->inodes[i], &choice.entropy);
  forget_places(files);
  rebuild(files, find_root(files), files->root);
  find_root(files)->placed = true;
  collect(files);
  files->crashes++;
  sim_files_kill(files);
  watched = files;
}

static void settle(struct sim_files *files, struct sim_inode *directory, const char *name, const char *path) {
  struct stat status;
  (void)directory, (void)name;
  if (lstat(path, &status) < 0) return;
  struct sim_inode *inode = find_inode(files, &status);
  if (inode) note_status(inode, &status);
  if (inode && inode->touched && S_ISREG(status.st_mode)) {
    read_content(path, &inode->durable);
    inode->dirty = inode->touched = false;
  }
  if (S_ISDIR(status.st_mode)) for_each_name(files, inode, path, settle);
}

void sim_files_world_end(struct sim_files *files) {
  watched = NULL;
  for_each_name(files, find_root(files), files->root, settle);
  files->by_world = false;
  watched = files;
}
