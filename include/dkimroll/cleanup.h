/* Scope-bound cleanup (the compiler's cleanup attribute). Destructors accept NULL. */
#ifndef DKIMROLL_CLEANUP_H
#define DKIMROLL_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(function) __attribute__((cleanup(function)))

/* Moves a pointer out of its variable, so that the cleanup finds NULL. */
#define TAKE_PTR(pointer)                                                                                              \
  ({                                                                                                                   \
    __typeof__(pointer) *take_ptr_place = &(pointer);                                                                  \
    __typeof__(pointer) take_ptr_value = *take_ptr_place;                                                              \
    *take_ptr_place = NULL;                                                                                            \
    take_ptr_value;                                                                                                    \
  })
#define TAKE_FD(descriptor)                                                                                            \
  ({                                                                                                                   \
    int *take_fd_place = &(descriptor);                                                                                \
    int take_fd_value = *take_fd_place;                                                                                \
    *take_fd_place = -1;                                                                                               \
    take_fd_value;                                                                                                     \
  })

static inline void cleanup_free(void *pointer) { free(*(void **)pointer); }
static inline void cleanup_close(int *descriptor) {
  if (*descriptor >= 0) close(*descriptor);
}
static inline void cleanup_fclose(FILE **file) {
  if (*file) fclose(*file);
}

#define CLEANUP_FREE CLEANUP(cleanup_free)
#define CLEANUP_CLOSE CLEANUP(cleanup_close)
#define CLEANUP_FCLOSE CLEANUP(cleanup_fclose)

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#endif
