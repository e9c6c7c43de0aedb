/* What differs from host to host and from run to run, and would come into files of a life by its width: the number of the process, and those of inodes and devices. A disk that is nearly full makes
 * another life of it. */
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(result, name, ...)                                                                                        \
  extern result __real_##name(__VA_ARGS__) __attribute__((weak));                                                      \
  result __wrap_##name(__VA_ARGS__);                                                                                   \
  result __wrap_##name(__VA_ARGS__)

/* Eight digits, and two files still have two numbers. */
static int with_equal_width(int result, struct stat *status) {
  enum { FIRST = 10000000, NUMBERS = 90000000, DEVICE = 1 };
  if (result) return result;
  status->st_ino = FIRST + status->st_ino % NUMBERS;
  status->st_dev = DEVICE;
  return 0;
}

REAL(int, stat, const char *path, struct stat *status) {
  return with_equal_width(__real_stat(path, status), status);
}

REAL(int, lstat, const char *path, struct stat *status) {
  return with_equal_width(__real_lstat(path, status), status);
}

REAL(int, fstat, int descriptor, struct stat *status) {
  return with_equal_width(__real_fstat(descriptor, status), status);
}

REAL(int, fstatat, int directory, const char *path, struct stat *status, int flags) {
  return with_equal_width(__real_fstatat(directory, path, status, flags), status);
}

REAL(pid_t, getpid, void) {
  enum { PROCESS = 4321 };
  return PROCESS;
}
