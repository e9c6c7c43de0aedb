/* The simulated disk as SQLite sees it: its VFS, its locks, and the shared memory of the WAL's index. */
#include "sim_disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/text.h"

struct handle {
  sqlite3_file base; /* first */
  struct sim_disk *disk;
  struct sim_disk_file *file;
  unsigned life;
  int lock;             /* SQLITE_LOCK_ of the main file */
  unsigned shared;      /* bits of the WAL index's locks */
  unsigned exclusive;
  bool maps;
};

static struct handle *handle_of(sqlite3_file *file) {
  return (struct handle *)file;
}

static bool is_dead(const struct handle *handle) {
  return handle->life != handle->disk->life || handle->disk->dark;
}

static bool chance(struct sim_disk *disk, unsigned percent) {
  return percent > 0 && entropy_below(&disk->random.entropy, 100) < percent;
}

/* Counts a change. false: the power went before it. */
static bool change(struct sim_disk *disk) {
  if (disk->power_lasts && --disk->power_lasts == 0) disk->dark = true;
  if (disk->dark) return false;
  disk->changes++;
  return true;
}

static int fails(struct sim_disk *disk, int code) {
  disk->failures++;
  return code;
}

/* ---- octets ---- */

static int disk_read(sqlite3_file *base, void *octets, int size, sqlite3_int64 offset) {
  const struct handle *handle = handle_of(base);
  if (is_dead(handle)) return SQLITE_IOERR_READ;
  const struct sim_disk_image *image = &handle->file->present;
  const int64_t there = offset < image->size ? image->size - offset : 0;
  const size_t got = there < size ? (size_t)there : (size_t)size;
  if (got > 0) memcpy(octets, image->octets + offset, got);
  memset((char *)octets + got, 0, (size_t)size - got);
  return got == (size_t)size ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static bool takes_room(struct handle *handle, int64_t size) {
  const int64_t growth = size - handle->file->present.size;
  if (growth <= 0 || handle->disk->room < 0) return true;
  if (growth > handle->disk->room) return false;
  handle->disk->room -= growth;
  return true;
}

static int disk_write(sqlite3_file *base, const void *octets, int size, sqlite3_int64 offset) {
  struct handle *handle = handle_of(base);
  if (is_dead(handle) || !change(handle->disk)) return SQLITE_IOERR_WRITE;
  if (chance(handle->disk, handle->disk->write_fails)) return fails(handle->disk, SQLITE_IOERR_WRITE);
  if (!takes_room(handle, offset + size)) return fails(handle->disk, SQLITE_FULL);
  sim_disk_file_write(handle->file, octets, (size_t)size, offset);
  return SQLITE_OK;
}

static int disk_truncate(sqlite3_file *base, sqlite3_int64 size) {
  struct handle *handle = handle_of(base);
  if (is_dead(handle) || !change(handle->disk)) return SQLITE_IOERR_TRUNCATE;
  if (!takes_room(handle, size)) return fails(handle->disk, SQLITE_FULL);
  if (handle->disk->room >= 0 && size < handle->file->present.size) handle->disk->room += handle->file->present.size - size;
  sim_disk_file_cut(handle->file, size);
  return SQLITE_OK;
}

static int disk_sync(sqlite3_file *base, int flags) {
  struct handle *handle = handle_of(base);
  (void)flags;
  if (is_dead(handle) || !change(handle->disk)) return SQLITE_IOERR_FSYNC;
  const bool failed = chance(handle->disk, handle->disk->sync_fails);
  handle->disk->syncs++;
  sim_disk_file_sync(handle->disk, handle->file, failed);
  return failed ? fails(handle->disk, SQLITE_IOERR_FSYNC) : SQLITE_OK;
}

static int disk_size(sqlite3_file *base, sqlite3_int64 *ret_size) {
  if (is_dead(handle_of(base))) return SQLITE_IOERR_FSTAT;
  *ret_size = handle_of(base)->file->present.size;
  return SQLITE_OK;
}

/* ---- locks of the main file: shared, reserved, pending, exclusive (sqlite.org/lockingv3.html) ---- */

static void lower(struct handle *handle, int lock) {
  struct sim_disk_sharing *sharing = &handle->file->sharing;
  if (lock < SQLITE_LOCK_EXCLUSIVE && sharing->exclusive == handle) sharing->exclusive = NULL;
  if (lock < SQLITE_LOCK_RESERVED && sharing->reserved == handle) sharing->reserved = NULL;
  if (lock < SQLITE_LOCK_SHARED && handle->lock >= SQLITE_LOCK_SHARED) sharing->shared--;
  handle->lock = lock;
}

static int disk_lock(sqlite3_file *base, int lock) {
  struct handle *handle = handle_of(base);
  if (is_dead(handle)) return SQLITE_IOERR_LOCK;
  struct sim_disk_sharing *sharing = &handle->file->sharing;
  if (handle->lock >= lock) return SQLITE_OK;
  if (sharing->exclusive && sharing->exclusive != handle) return SQLITE_BUSY;
  if (lock >= SQLITE_LOCK_RESERVED && sharing->reserved && sharing->reserved != handle) return SQLITE_BUSY;
  if (handle->lock < SQLITE_LOCK_SHARED) sharing->shared++;
  if (lock >= SQLITE_LOCK_RESERVED) sharing->reserved = handle;
  handle->lock = lock < SQLITE_LOCK_EXCLUSIVE ? lock : SQLITE_LOCK_PENDING;
  if (lock < SQLITE_LOCK_EXCLUSIVE) return SQLITE_OK;
  sharing->exclusive = handle;
  if (sharing->shared > 1) return SQLITE_BUSY;
  handle->lock = SQLITE_LOCK_EXCLUSIVE;
  return SQLITE_OK;
}

static int disk_unlock(sqlite3_file *base, int lock) {
  struct handle *handle = handle_of(base);
  if (handle->life == handle->disk->life && handle->lock > lock) lower(handle, lock);
  return SQLITE_OK;
}

static int disk_check_reserved(sqlite3_file *base, int *ret_reserved) {
  const struct handle *handle = handle_of(base);
  *ret_reserved = handle->file->sharing.reserved != NULL;
  return is_dead(handle) ? SQLITE_IOERR_CHECKRESERVEDLOCK : SQLITE_OK;
}

static int disk_control(sqlite3_file *base, int operation, void *argument) {
  (void)base, (void)operation, (void)argument;
  return SQLITE_NOTFOUND;
}

static int disk_sector(sqlite3_file *base) {
  (void)base;
  return 4096; /* as the VFS of Unix says */
}

static int disk_characteristics(sqlite3_file *base) {
  (void)base;
  return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

/* ---- the WAL's index: memory that the connections of one process share ---- */

static int disk_map(sqlite3_file *base, int region, int size, int extends, void volatile **ret_memory) {
  struct handle *handle = handle_of(base);
  *ret_memory = NULL;
  if (is_dead(handle) || region >= SIM_DISK_REGIONS_MAX) return SQLITE_IOERR_SHMMAP;
  void **place = &handle->file->sharing.regions[region];
  handle->maps = true;
  if (!*place && extends) *place = calloc(1, (size_t)size);
  if (!*place && extends) return SQLITE_IOERR_NOMEM;
  *ret_memory = *place;
  return SQLITE_OK;
}

static void release_slot(struct handle *handle, unsigned slot) {
  struct sim_disk_sharing *sharing = &handle->file->sharing;
  if (handle->shared & 1U << slot) sharing->readers[slot]--;
  if (handle->exclusive & 1U << slot) sharing->writer[slot] = NULL;
  handle->shared &= ~(1U << slot);
  handle->exclusive &= ~(1U << slot);
}

static bool slot_is_free(const struct handle *handle, unsigned slot, bool exclusive) {
  const struct sim_disk_sharing *sharing = &handle->file->sharing;
  if (sharing->writer[slot] && sharing->writer[slot] != handle) return false;
  return !exclusive || sharing->readers[slot] == (handle->shared >> slot & 1U);
}

static void take_slot(struct handle *handle, unsigned slot, bool exclusive) {
  struct sim_disk_sharing *sharing = &handle->file->sharing;
  if (exclusive) {
    sharing->writer[slot] = handle;
    handle->exclusive |= 1U << slot;
  } else if (!(handle->shared & 1U << slot)) {
    sharing->readers[slot]++;
    handle->shared |= 1U << slot;
  }
}

static int disk_share(sqlite3_file *base, int first, int count, int flags) {
  struct handle *handle = handle_of(base);
  const bool exclusive = flags & SQLITE_SHM_EXCLUSIVE;
  if (is_dead(handle)) return flags & SQLITE_SHM_UNLOCK ? SQLITE_OK : SQLITE_IOERR_SHMLOCK;
  for (int slot = first; slot < first + count; slot++) {
    if (flags & SQLITE_SHM_UNLOCK)
      release_slot(handle, (unsigned)slot);
    else if (!slot_is_free(handle, (unsigned)slot, exclusive))
      return SQLITE_BUSY;
  }
  for (int slot = first; (flags & SQLITE_SHM_LOCK) && slot < first + count; slot++) take_slot(handle, (unsigned)slot, exclusive);
  return SQLITE_OK;
}

static void disk_barrier(sqlite3_file *base) {
  (void)base;
}

static int disk_unmap(sqlite3_file *base, int deletes) {
  struct handle *handle = handle_of(base);
  handle->maps = false;
  if (handle->life != handle->disk->life) return SQLITE_OK;
  for (unsigned slot = 0; slot < SIM_DISK_LOCKS; slot++) release_slot(handle, slot);
  if (!deletes) return SQLITE_OK;
  for (size_t i = 0; i < SIM_DISK_REGIONS_MAX; i++) {
    free(handle->file->sharing.regions[i]);
    handle->file->sharing.regions[i] = NULL;
  }
  return SQLITE_OK;
}

/* ---- names ---- */

static int disk_close(sqlite3_file *base) {
  struct handle *handle = handle_of(base);
  struct sim_disk *disk = handle->disk;
  if (handle->life == disk->life) {
    if (handle->maps) disk_unmap(base, 0);
    lower(handle, SQLITE_LOCK_NONE);
  } else {
    handle->file->dead_handles--;
    sim_disk_file_free_retired(handle->file);
  }
  handle->file->handles--;
  base->pMethods = NULL;
  sim_disk_collect(disk);
  return SQLITE_OK;
}

static const sqlite3_io_methods disk_methods = {
    .iVersion = 2,
    .xClose = disk_close,
    .xRead = disk_read,
    .xWrite = disk_write,
    .xTruncate = disk_truncate,
    .xSync = disk_sync,
    .xFileSize = disk_size,
    .xLock = disk_lock,
    .xUnlock = disk_unlock,
    .xCheckReservedLock = disk_check_reserved,
    .xFileControl = disk_control,
    .xSectorSize = disk_sector,
    .xDeviceCharacteristics = disk_characteristics,
    .xShmMap = disk_map,
    .xShmLock = disk_share,
    .xShmBarrier = disk_barrier,
    .xShmUnmap = disk_unmap,
};

static int disk_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *ret_flags) {
  struct sim_disk *disk = (struct sim_disk *)vfs;
  struct sim_disk_file *file = path ? sim_disk_file_find(disk, path) : NULL;
  base->pMethods = NULL;
  if (disk->dark) return SQLITE_CANTOPEN;
  if (!file && path && !(flags & SQLITE_OPEN_CREATE)) return SQLITE_CANTOPEN;
  if (!file) {
    file = sim_disk_file_make(disk, path);
    file->named_durably = path && (flags & SQLITE_OPEN_MAIN_DB);
  }
  file->handles++;
  *handle_of(base) = (struct handle){.base.pMethods = &disk_methods, .disk = disk, .file = file, .life = disk->life};
  if (ret_flags) *ret_flags = flags;
  return SQLITE_OK;
}

static int disk_delete(sqlite3_vfs *vfs, const char *path, int syncs) {
  struct sim_disk *disk = (struct sim_disk *)vfs;
  struct sim_disk_file *file = sim_disk_file_find(disk, path);
  if (!file) return SQLITE_IOERR_DELETE_NOENT;
  if (!change(disk)) return SQLITE_IOERR_DELETE;
  file->named = false;
  for (struct sim_disk_file *other = disk->files; other && syncs; other = other->next) other->named_durably = other->named;
  if (disk->room >= 0) disk->room += file->present.size;
  sim_disk_collect(disk);
  return SQLITE_OK;
}

static int disk_access(sqlite3_vfs *vfs, const char *path, int flags, int *ret_result) {
  const struct sim_disk_file *file = sim_disk_file_find((struct sim_disk *)vfs, path);
  /* The VFS of Unix takes an empty file for none, where existence is asked for. */
  *ret_result = file && (flags != SQLITE_ACCESS_EXISTS || file->present.size > 0);
  return SQLITE_OK;
}

static int disk_full_name(sqlite3_vfs *vfs, const char *path, int size, char *full) {
  (void)vfs;
  return text_copy(full, (size_t)size, path) ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int disk_random(sqlite3_vfs *vfs, int size, char *octets) {
  struct entropy *entropy = &((struct sim_disk *)vfs)->random.entropy;
  entropy->fill(entropy, octets, (size_t)size);
  return size;
}

/* Time does not pass in here. */
static int disk_sleep(sqlite3_vfs *vfs, int microseconds) {
  (void)vfs;
  return microseconds;
}

static int disk_now(sqlite3_vfs *vfs, sqlite3_int64 *ret_milliseconds) {
  (void)vfs;
  *ret_milliseconds = INT64_C(212636448000000); /* of the Julian day of 2026-01-24 */
  return SQLITE_OK;
}

static int disk_last_error(sqlite3_vfs *vfs, int size, char *text) {
  (void)vfs, (void)size, (void)text;
  return 0;
}

void sim_disk_install(struct sim_disk *disk, uint64_t seed) {
  *disk = (struct sim_disk){.vfs = {.iVersion = 2,
                                    .szOsFile = sizeof(struct handle),
                                    .mxPathname = 512,
                                    .zName = "simulated",
                                    .xOpen = disk_open,
                                    .xDelete = disk_delete,
                                    .xAccess = disk_access,
                                    .xFullPathname = disk_full_name,
                                    .xRandomness = disk_random,
                                    .xSleep = disk_sleep,
                                    .xGetLastError = disk_last_error,
                                    .xCurrentTimeInt64 = disk_now},
                            .real = sqlite3_vfs_find(NULL),
                            .room = -1};
  entropy_seed(&disk->random, seed);
  if (sqlite3_vfs_register(&disk->vfs, 1) != SQLITE_OK) abort();
  /* SQLite's generator takes its seed from the VFS when it is used next. */
  sqlite3_randomness(0, NULL);
}

void sim_disk_remove(struct sim_disk *disk) {
  sqlite3_vfs_unregister(&disk->vfs);
  if (sqlite3_vfs_register(disk->real, 1) != SQLITE_OK) abort();
  sqlite3_randomness(0, NULL);
  for (struct sim_disk_file *file = disk->files; file; file = file->next) {
    if (file->handles > 0) abort();
    file->named = file->named_durably = false;
  }
  sim_disk_collect(disk);
}

static void end_life(struct sim_disk *disk) {
  for (struct sim_disk_file *file = disk->files; file; file = file->next) sim_disk_file_end_life(file);
  disk->life++;
  disk->dark = false;
  disk->power_lasts = 0;
}

void sim_disk_kill(struct sim_disk *disk) {
  end_life(disk);
}

void sim_disk_crash(struct sim_disk *disk, uint64_t seed) {
  struct entropy_seeded choice;
  entropy_seed(&choice, seed);
  for (struct sim_disk_file *file = disk->files; file; file = file->next) sim_disk_file_lose(disk, file, &choice.entropy);
  disk->crashes++;
  end_life(disk);
  sim_disk_collect(disk);
}

bool sim_disk_is_dark(const struct sim_disk *disk) {
  return disk->dark;
}

int64_t sim_disk_size(const struct sim_disk *disk, const char *path) {
  const struct sim_disk_file *file = sim_disk_file_find(disk, path);
  return file ? file->present.size : -1;
}

void sim_disk_delete(struct sim_disk *disk, const char *path) {
  struct sim_disk_file *file = sim_disk_file_find(disk, path);
  if (!file) return;
  file->named = file->named_durably = false;
  sim_disk_collect(disk);
}
