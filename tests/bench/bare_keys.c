/* Generates N RSA-2048 keys with bare EVP calls, over as many processes as there are cores: what no key rotation can be faster than. */
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
  const long count = argc > 1 ? strtol(argv[1], NULL, 10) : 200;
  const long cores = sysconf(_SC_NPROCESSORS_ONLN);
  for (long core = 0; core < cores; core++) {
    if (fork() != 0) continue;
    for (long i = core; i < count; i += cores) EVP_PKEY_free(EVP_RSA_gen(2048));
    _exit(0);
  }
  int failed = 0, status;
  while (wait(&status) > 0) failed |= status;
  return failed != 0;
}
