// A real OpenID provider for tests. Whoever signs in is who they say they are; what is said of them stands in a file,
// as do the keys, so that tests change both.
//
//     node provider.mjs PORT KEYS.json PEOPLE.json CALLBACK CLIENT_SECRET
//
// Its clients come back to CALLBACK/corp and CALLBACK/public.

import { readFileSync } from "node:fs";
import Provider from "oidc-provider";

const [port, keys, people, callback, secret] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const read = (file) => JSON.parse(readFileSync(file, "utf8"));

const provider = new Provider(issuer, {
  clients: [
    { client_id: "moorage", client_secret: secret, redirect_uris: [`${callback}/corp`] },
    {
      client_id: "public",
      redirect_uris: [`${callback}/public`],
      token_endpoint_auth_method: "none",
      id_token_signed_response_alg: "ES256",
    },
  ],
  jwks: read(keys),
  claims: { openid: ["sub"], profile: ["name", "preferred_username", "groups"], email: ["email", "email_verified"] },
  findAccount: (_, id) => {
    const claims = read(people)[id];
    return claims && { accountId: id, claims: () => ({ sub: id, ...claims }) };
  },
  features: { devInteractions: { enabled: true } },
  cookies: { keys: ["of the tests"] },
  pkce: { required: () => true },
});

provider.listen(Number(port), "127.0.0.1");
