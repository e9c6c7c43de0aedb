/* For the fuzz targets whose jobs touch files: a folder, what lies in it, and what is still there afterwards. What cannot be done ends the program. */
#ifndef DKIMROLL_TESTS_FUZZ_FOLDER_H
#define DKIMROLL_TESTS_FUZZ_FOLDER_H

#include <ftw.h>
#include <sys/stat.h>

/* With all that is in it. */
void folder_remove(const char *folder);
/* Writes a file of mode 0600 under a name in it. */
void folder_write(const char *folder, const char *name, const char *text);
/* The file of that name in it says what is expected. */
void folder_expect(const char *folder, const char *name, const char *expected);

/* Of nftw(3); returns 0. */
typedef int folder_entry(const char *path, const struct stat *status, int kind, struct FTW *place);
/* Shows the folder and all that is in it to look, links as such. */
void folder_look(const char *folder, folder_entry *look);

#endif
