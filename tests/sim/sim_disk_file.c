/* The files of the simulated disk: what the process sees, what is durable, and the changes between both. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/text.h"
#include "sim_disk.h"

static void *must(void *pointer) {
  if (!pointer) abort();
  return pointer;
}

static void image_resize(struct sim_disk_image *image, int64_t size) {
  if (size > image->capacity) {
    image->capacity = size * 2 > 4096 ? size * 2 : 4096;
    image->octets = must(realloc(image->octets, (size_t)image->capacity));
  }
  if (size > image->size) memset(image->octets + image->size, 0, (size_t)(size - image->size));
  image->size = size;
}

static void image_write(struct sim_disk_image *image, const void *octets, size_t size, int64_t offset) {
  if (offset + (int64_t)size > image->size) image_resize(image, offset + (int64_t)size);
  memcpy(image->octets + offset, octets, size);
}

static void image_copy(struct sim_disk_image *image, const struct sim_disk_image *source) {
  image_resize(image, source->size);
  if (source->size > 0) memcpy(image->octets, source->octets, (size_t)source->size);
}

static void forget_changes(struct sim_disk_file *file) {
  for (size_t i = 0; i < file->change_count; i++) free(file->changes[i].octets);
  file->change_count = 0;
}

static struct sim_disk_change *add_change(struct sim_disk_file *file) {
  if (file->change_count == file->change_capacity) {
    file->change_capacity = file->change_capacity ? file->change_capacity * 2 : 16;
    file->changes = must(realloc(file->changes, file->change_capacity * sizeof *file->changes));
  }
  return &file->changes[file->change_count++];
}

struct sim_disk_file *sim_disk_file_find(const struct sim_disk *disk, const char *path) {
  struct sim_disk_file *file = disk->files;
  while (file && !(file->named && text_equal(file->path, path))) file = file->next;
  return file;
}

struct sim_disk_file *sim_disk_file_make(struct sim_disk *disk, const char *path) {
  struct sim_disk_file *file = must(calloc(1, sizeof *file));
  *file = (struct sim_disk_file){.next = disk->files, .named = path != NULL};
  if (path) file->path = must(text_duplicate(path));
  disk->files = file;
  return file;
}

void sim_disk_file_write(struct sim_disk_file *file, const void *octets, size_t size, int64_t offset) {
  struct sim_disk_change change = {.offset = offset, .size = size, .octets = must(malloc(size + 1))};
  memcpy(change.octets, octets, size);
  *add_change(file) = change;
  image_write(&file->present, octets, size, offset);
}

void sim_disk_file_cut(struct sim_disk_file *file, int64_t size) {
  *add_change(file) = (struct sim_disk_change){.offset = size};
  image_resize(&file->present, size);
}

static void apply(struct sim_disk_image *image, const struct sim_disk_change *change) {
  if (change->octets)
    image_write(image, change->octets, change->size, change->offset);
  else
    image_resize(image, change->offset);
}

void sim_disk_file_sync(struct sim_disk *disk, struct sim_disk_file *file, bool fails) {
  for (size_t i = 0; i < file->change_count && fails; i++) file->changes[i].lost = true;
  if (fails) return;
  /* The first sync of a new file is one of its directory too, and so of all that happened to names until then. */
  for (struct sim_disk_file *other = disk->files; other && file->named && !file->named_durably; other = other->next)
    if (other != file) other->named_durably = other->named;
  file->named_durably = file->named;
  for (size_t i = 0; i < file->change_count; i++)
    if (!file->changes[i].lost) apply(&file->durable, &file->changes[i]);
  /* What was lost stays visible to the process, and is gone from the list: no later sync is about it. */
  forget_changes(file);
}

static void retire_region(struct sim_disk_file *file, void *region) {
  struct sim_disk_retired *retired = must(calloc(1, sizeof *retired));
  *retired = (struct sim_disk_retired){.next = file->retired, .region = region};
  file->retired = retired;
}

/* Connections of the process that ended still point into the shared memory until they are closed. */
void sim_disk_file_end_life(struct sim_disk_file *file) {
  for (size_t i = 0; i < SIM_DISK_REGIONS_MAX; i++)
    if (file->sharing.regions[i]) retire_region(file, file->sharing.regions[i]);
  file->sharing = (struct sim_disk_sharing){0};
  file->dead_handles = file->handles;
  sim_disk_file_free_retired(file);
}

void sim_disk_file_free_retired(struct sim_disk_file *file) {
  while (file->dead_handles == 0 && file->retired) {
    struct sim_disk_retired *retired = file->retired;
    file->retired = retired->next;
    free(retired->region);
    free(retired);
  }
}

/* Each sector of a write survives or does not; a write of a few octets is one piece. */
static void survive(struct sim_disk *disk, struct sim_disk_image *image, const struct sim_disk_change *change, struct entropy *entropy) {
  for (size_t done = 0, part; done < change->size; done += part) {
    const int64_t offset = change->offset + (int64_t)done;
    part = SIM_DISK_SECTOR - (size_t)(offset % SIM_DISK_SECTOR);
    if (part > change->size - done) part = change->size - done;
    if (entropy_below(entropy, 2))
      image_write(image, change->octets + done, part, offset);
    else
      disk->sectors_lost++;
  }
}

void sim_disk_file_lose(struct sim_disk *disk, struct sim_disk_file *file, struct entropy *entropy) {
  /* Often all of the recent changes are there, or none; what lies between is torn. */
  const uint32_t fate = entropy_below(entropy, 4);
  for (size_t i = 0; i < file->change_count; i++) {
    const struct sim_disk_change *change = &file->changes[i];
    if (change->lost || fate == 0)
      disk->sectors_lost++;
    else if (fate == 1)
      apply(&file->durable, change);
    else if (change->octets)
      survive(disk, &file->durable, change, entropy);
    else if (entropy_below(entropy, 2))
      apply(&file->durable, change);
  }
  forget_changes(file);
  /* A name that was made, or went, without a sync: either way, if it is not another file's by now. */
  if (file->named != file->named_durably) file->named = entropy_below(entropy, 2);
  if (file->named && sim_disk_file_find(disk, file->path) != file) file->named = false;
  file->named_durably = file->named;
  image_copy(&file->present, &file->durable);
}

static void file_free(struct sim_disk_file *file) {
  sim_disk_file_end_life(file);
  forget_changes(file);
  free(file->changes);
  free(file->present.octets);
  free(file->durable.octets);
  free(file->path);
  free(file);
}

void sim_disk_collect(struct sim_disk *disk) {
  for (struct sim_disk_file **place = &disk->files; *place;) {
    struct sim_disk_file *file = *place;
    if (file->named || file->named_durably || file->handles > 0) {
      place = &file->next;
      continue;
    }
    *place = file->next;
    file_free(file);
  }
}
