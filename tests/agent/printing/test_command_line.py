# SPDX-License-Identifier: Apache-2.0
"""Command lines as administrators, scripts and orchestrators write them: no secret is shown, the rest is."""

from __future__ import annotations

import base64
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import canonical
from agent.printing.command_line import ARGV_BYTES_MAX, CUT, LINE_CHARS_MAX, WORD_BYTES_MAX, WORDS_MAX, masked

# It opens nothing, and looks like nothing else.
S = "S3cr3t"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


def words(line: str) -> list[bytes]:
    """A command line as a shell takes it apart."""
    return [word.encode() for word in shlex.split(line)]


HIDDEN = {
    # databases
    f"mysql -p{S} -uroot db": "mysql -p*** -uroot db",
    f"mysql -u root -BNp{S}": "mysql -u root -BNp***",
    f"mysql --password={S}": "mysql --password=***",
    f"mysqladmin -u root password {S}": "mysqladmin -u root password ***",
    f"sudo -u mysql /usr/bin/mysqldump -p{S} db": "sudo -u mysql /usr/bin/mysqldump -p*** db",
    f"mariadb --defaults-file=/etc/my.cnf -p{S}": "mariadb --defaults-file=/etc/my.cnf -p***",
    f"env PGPASSWORD={S} psql -h db": "env PGPASSWORD=*** psql -h db",
    f"psql postgres://user:{S}@h/db": "psql postgres://user:***@h/db",
    f"psql postgres://user:p@{S}@h/db": "psql postgres://user:***@h/db",
    f"psql postgres://user:a/{S}@h/db": "psql postgres://user:***@h/db",
    f"psql 'host=h user=u password={S} dbname=d'": "psql 'host=h user=u password=*** dbname=d'",
    f"mongosh -u me -p {S}": "mongosh -u me -p ***",
    f"mongodump --uri mongodb://me:{S}@a,b,c/x": "mongodump --uri mongodb://me:***@a,b,c/x",
    f"redis-cli -h h -a {S} ping": "redis-cli -h h -a *** ping",
    f"redis-cli AUTH {S}": "redis-cli AUTH ***",
    f"redis-cli CONFIG SET requirepass {S}": "redis-cli CONFIG SET requirepass ***",
    f"app redis://:{S}@h:6379/0": "app redis://:***@h:6379/0",
    f"sqlplus -s scott/{S}@db": "sqlplus -s scott/***",
    f"sqlcmd -S h -U sa -P {S}": "sqlcmd -S h -U sa -P ***",
    f"app --conn 'Server=h;User=sa;Password={S};Db=x'": "app --conn 'Server=h;User=sa;Password=***;Db=x'",
    # the web
    f"curl -u user:{S} https://h/": "curl -u user:*** https://h/",
    f"curl -sku user:{S} https://h/": "curl -sku user:*** https://h/",
    f"curl -uuser:{S} https://h/": "curl -uuser:*** https://h/",
    f"curl -H 'Authorization: Bearer {S}' https://h": "curl -H 'Authorization: Bearer ***' https://h",
    f"curl -H 'Authorization: {S}' https://h": "curl -H 'Authorization: ***' https://h",
    f"curl -HX-Api-Key:{S} https://h": None,
    f"curl -H 'X-Api-Key: {S}' https://h": "curl -H 'X-Api-Key: ***' https://h",
    f"curl -H Authorization: Bearer {S} x": "curl -H Authorization: Bearer *** x",
    f"curl -H 'Cookie: a=b; session={S}' x": None,
    f"curl -b session={S} x": "curl -b *** x",
    f"curl -d 'user=x&password={S}&n=1' x": "curl -d 'user=x&password=***&n=1' x",
    f'curl -d \'{{"user":"x","password":"{S}","n":1}}\' x':
        'curl -d \'{"user":"x","password":"***","n":1}\' x',
    f"curl 'https://h/a?token={S}&n=1'": "curl 'https://h/a?token=***&n=1'",
    f"curl -E client.pem:{S} https://h": "curl -E client.pem:*** https://h",
    f"curl --proxy http://u:{S}@p:3128 https://h": "curl --proxy http://***@p:3128 https://h",
    f"wget --http-user=u --http-password={S} https://h": "wget --http-user=u --http-password=*** https://h",
    f"http -a me:{S} https://h": "http -a *** https://h",
    f"app https://user:{S}": "app https://***",
    f"amqp://u:{S}@h1,amqp://u:{S}@h2": "amqp://u:***@h1,amqp://u:***@h2",
    f"echo '<password>{S}</password>'": "echo '<password>***</password>'",
    # keys
    f"openssl pkcs12 -in a.p12 -passin pass:{S} -passout env:PW":
        "openssl pkcs12 -in a.p12 -passin pass:*** -passout env:PW",
    f"openssl enc -aes-256-cbc -k {S} -in f": "openssl enc -aes-256-cbc -k *** -in f",
    f"openssl enc -aes-256-cbc -K {S} -iv 00": "openssl enc -aes-256-cbc -K *** -iv 00",
    f"openssl passwd -6 {S}": "openssl passwd -6 ***",
    f"openssl dgst -hmac {S} file": "openssl dgst -hmac *** file",
    f"openssl mac -macopt hexkey:{S} HMAC": "openssl mac -macopt hexkey:*** HMAC",
    f"keytool -list -keystore /x.jks -storepass {S}": "keytool -list -keystore /x.jks -storepass ***",
    f"java -Djavax.net.ssl.keyStorePassword={S} -jar a.jar":
        "java -Djavax.net.ssl.keyStorePassword=*** -jar a.jar",
    f"ssh-keygen -t ed25519 -N {S} -f /tmp/k": "ssh-keygen -t ed25519 -N *** -f /tmp/k",
    f"gpg --batch --passphrase {S} -c f": "gpg --batch --passphrase *** -c f",
    f"7z a -p{S} x.7z f": "7z a -p*** x.7z f",
    f"zip -P {S} x.zip f": "zip -P *** x.zip f",
    "app '-----BEGIN PRIVATE KEY-----\nS3cr3t\n-----END PRIVATE KEY-----'": None,
    # hosts and directories
    f"sshpass -p {S} ssh host": "sshpass -p *** ssh host",
    f"sshpass -p{S} ssh host": "sshpass -p*** ssh host",
    f"ldapsearch -x -D cn=admin -w {S} -b dc=x": "ldapsearch -x -D cn=admin -w *** -b dc=x",
    f"ldapsearch -xw{S}": "ldapsearch -xw***",
    f"ldappasswd -x -a old -s {S} uid=x": "ldappasswd -x -a *** -s *** uid=x",
    f"smbclient //h/s -U user%{S}": "smbclient //h/s -U user%***",
    f"mount -t cifs //h/s /mnt -o username=u,password={S},vers=3":
        "mount -t cifs //h/s /mnt -o username=u,password=***,vers=3",
    f"htpasswd -b /etc/h user {S}": "htpasswd -b /etc/h user ***",
    f"htpasswd -nb user {S}": "htpasswd -nb user ***",
    f"snmpwalk -v3 -A {S} -X {S} h": "snmpwalk -v3 -A *** -X *** h",
    f"plink -pw {S} u@h": "plink -pw *** u@h",
    f"xfreerdp /u:me /p:{S} /v:h": "xfreerdp /u:me /p:*** /v:h",
    f"lftp -u me,{S} ftp://h": "lftp -u me,*** ftp://h",
    f"wpa_passphrase net {S}": "wpa_passphrase net ***",
    f"nmcli dev wifi connect ssid password {S}": "nmcli dev wifi connect ssid password ***",
    f"useradd -m -p {S} alice": "useradd -m -p *** alice",
    # clouds, containers, sources
    f"docker login -u me -p {S} reg": "docker login -u me -p *** reg",
    f"docker -H tcp://h:2375 login -p {S}": "docker -H tcp://h:2375 login -p ***",
    f"docker run -p 80:80 -e MYSQL_ROOT_PASSWORD={S} -e DEBUG=1 mysql":
        "docker run -p 80:80 -e MYSQL_ROOT_PASSWORD=*** -e DEBUG=1 mysql",
    f"kubectl --token {S} get pods": "kubectl --token *** get pods",
    f"kubectl create secret generic x --from-literal=password={S}":
        "kubectl create secret generic x --from-literal=password=***",
    f"helm upgrade x y --set a=b,auth.password={S}": "helm upgrade x y --set a=b,auth.password=***",
    f"ansible-playbook -e password={S} site.yml": "ansible-playbook -e password=*** site.yml",
    f"ansible-playbook -e 'ansible_become_pass={S} x=1' site.yml":
        "ansible-playbook -e ansible_become_pass=*** site.yml",
    f"vault login {S}": "vault login ***",
    f"vault write auth/userpass/login/x password={S}": "vault write auth/userpass/login/x password=***",
    f"env AWS_SECRET_ACCESS_KEY={S}/K7MDENG aws s3 ls": "env AWS_SECRET_ACCESS_KEY=*** aws s3 ls",
    f"aws configure set aws_secret_access_key {S}": "aws configure set aws_secret_access_key ***",
    f"app set sasl.password {S}": "app set sasl.password ***",
    f"git clone https://{S}@github.com/a/b": "git clone https://***@github.com/a/b",
    f"git clone https://x:{S}@github.com/a/b": "git clone https://***@github.com/a/b",
    f"git -c 'http.extraHeader=Authorization: Basic {S}' clone x":
        "git -c 'http.extraHeader=Authorization: Basic ***' clone x",
    f"npm config set //registry.npmjs.org/:_authToken={S}":
        "npm config set //registry.npmjs.org/:_authToken=***",
    f"etcdctl --user root:{S} get x": "etcdctl --user root:*** get x",
    # any program
    f"app --password {S}": "app --password ***",
    f"app --db-password '{S} with {S}'": "app --db-password ***",
    f"app --password --token {S}": "app --password *** ***",
    f"app --user me:{S}": "app --user me:***",
    f"app --user=me:{S}": "app --user=me:***",
    f"app -DapiKey={S}": "app -DapiKey=***",
    f"app --config=db.password={S}": "app --config=db.password=***",
    f"PASSWORD={S} app": "PASSWORD=*** app",
    f"app token={S}": "app token=***",
    f"app 'password: {S} and more'": "app 'password: ***'",
    f"app --client-secret={S}": "app --client-secret=***",
    # shells
    f"sh -c 'mysql -p{S} -u root; echo hi'": "sh -c 'mysql -p*** -u root; echo hi'",
    f"sh -c 'PGPASSWORD={S} psql -h h'": "sh -c 'PGPASSWORD=*** psql -h h'",
    f"bash -c 'curl -u me:{S} https://h && ls -l'": "bash -c 'curl -u me:*** https://h && ls -l'",
    f"bash -c \"bash -c 'sshpass -p {S} ssh h'\"": None,
    f"ssh root@db1 mysql -p{S} -e 'select 1'": "ssh root@db1 mysql -p*** -e 'select 1'",
    f"su - postgres -c 'psql -c \"ALTER USER x PASSWORD '\"'\"'{S}'\"'\"'\"'": None,
    f"mysql -e \"CREATE USER a IDENTIFIED BY '{S}'\"": None,
    f"python3 -c \"connect(user='x', password='{S}')\"": None,
}  # fmt: skip


@pytest.mark.parametrize("line", HIDDEN)
def test_no_secret_is_shown(line: str) -> None:
    """And what is no secret stays: the line as it should read, where it is short enough to say."""
    shown = masked(words(line))

    assert S not in shown
    assert "***" in shown
    if HIDDEN[line] is not None:
        assert shown == HIDDEN[line]


# Words of one argument list, and the line as it should read.
FOUND = [
    # scripts of several lines, and what a shell takes for the beginning of a command
    (["sh", "-c", f"set -e\nmysql -uroot -p{S} db"], "sh -c 'set -e\\x0amysql -uroot -p*** db'"),
    (["sh", "-c", f"cd /x\ncurl -u bob:{S} h"], "sh -c 'cd /x\\x0acurl -u bob:*** h'"),
    (["sh", "-c", f"\nredis-cli -a {S} ping"], "sh -c '\\x0aredis-cli -a *** ping'"),
    (["sh", "-c", f"a\n\tmysql\t-p{S}\tdb"], "sh -c 'a\\x0a\\x09mysql\\x09-p***\\x09db'"),
    (["sh", "-c", f"PASSWORD=\nmysql -p{S} db"], "sh -c 'PASSWORD=\\x0amysql -p*** db'"),
    (["sh", "-c", f"PGPASSWORD= mysql -p{S} db"], "sh -c 'PGPASSWORD= mysql -p*** db'"),
    (["sh", "-c", f"(mysql -p{S})"], "sh -c '(mysql -p***)'"),
    (["sh", "-c", f"{{ mysql -p{S}; }}"], "sh -c '{ mysql -p***; }'"),
    (["sh", "-c", f"! mysql -p{S}"], "sh -c '! mysql -p***'"),
    (["sh", "-c", f"X=$(curl -u a:{S} h)"], "sh -c 'X=$(curl -u a:*** h)'"),
    (["sh", "-c", f"X=`curl -u a:{S} h`"], "sh -c 'X=`curl -u a:*** h`'"),
    (["sh", "-c", f"app --password a\\ {S} x"], "sh -c 'app --password *** x'"),
    (["sh", "-c", f'app --password="a \\" {S}" x'], "sh -c 'app --password=\"***\" x'"),
    (["sh", "-c", f'sh -c "sh -c \\"mysql -p{S}\\""'], None),
    (["a=b=c=d=e=f " + f"mysql -p{S}", "x"], None),
    # data
    (["x", f'{{"password":["{S}"],"n":1}}'], """x '{"password":***,"n":1}'"""),
    (["x", f'{{"password":{{"value":"{S}"}},"n":1}}'], """x '{"password":***,"n":1}'"""),
    (["x", f'{{"credentials":["a","{S}"],"n":[1]}}'], """x '{"credentials":***,"n":[1]}'"""),
    (["x", f'{{"password": ["a]", "{S}"], "n": 1}}'], """x '{"password": ***, "n": 1}'"""),
    (["x", f'{{"password": ["{S}'], """x '{"password": ***'"""),
    (["x", f"a: 1\npassword: |\n  {S}\n  {S}\nn: 1"], None),
    (["x", f"a: 1\npasswords:\n  - {S}\n  - {S}\nn: 1"], None),
    (["x", f'd["token"]="{S}"'], """x 'd["token"]="***"'"""),
    (["x", f'os.environ["PASSWORD"] = "{S}"; x=1'], """x 'os.environ["PASSWORD"] = "***"; x=1'"""),
    (["perl", "-e", f'$h{{password}}="{S}"'], """perl -e '$h{password}="***"'"""),
    (["x", f"<password><b>{S}</b></password><n>1</n>"], "x '<password>***</password><n>1</n>'"),
    (["x", f"<password><![CDATA[{S}]]></password>"], "x '<password>***</password>'"),
    (["x", f'<password value="{S}"/>'], """x '<password value="***"/>'"""),
    (["x", f'<add key="password" value="{S}"/><add key="n" value="1"/>'],
     """x '<add key="password" value="***"/><add key="n" value="1"/>'"""),
    (["mysql", "-e", f"SET PASSWORD FOR a = '{S}'"], None),
    (["mysql", "-e", f"SET PASSWORD FOR a = 'x''{S}'"], None),
    (["sqlite3", "db", f"PRAGMA key='{S}'"], None),
    # options and places
    (["app", f"--with-token={S}"], "app --with-token=***"),
    (["app", f"--use-password={S}"], "app --use-password=***"),
    (["app", f"require_pass={S}"], "app require_pass=***"),
    (["curl", "-x", f"u:{S}@proxy:80", "h"], "curl -x u:***@proxy:80 h"),
    (["curl", f"--proxy=u:{S}@proxy:80", "h"], "curl --proxy=u:***@proxy:80 h"),
    (["app", f"//u:{S}@h/x"], "app //u:***@h/x"),
    (["app", f"u:{S}@tcp(h:1)/db"], "app 'u:***@tcp(h:1)/db'"),
    (["mount", "-o", f"user=u%{S}", "x"], "mount -o user=u%*** x"),
    (["mount", "-o", f"password={S}%{S}", "x"], "mount -o password=***%*** x"),
    (["net", "-U", f"a%{S}"], "net -U a%***"),
    (["nmcli", "c", "mod", "x", "wifi-sec.psk", S], "nmcli c mod x wifi-sec.psk ***"),
    (["kadmin", "-w", S], "kadmin -w ***"),
    (["rabbitmqctl", "add_user", "u", S], "rabbitmqctl add_user u ***"),
    (["rabbitmqctl", "change_password", "u", S], "rabbitmqctl change_password u ***"),
    (["vault", "operator", "unseal", S], "vault operator unseal ***"),
    (["npm", "config", "set", "_authToken", S], "npm config set _authToken ***"),
    (["app", "--recovery-key", S], "app --recovery-key ***"),
    (["app", "--unseal-key", S], "app --unseal-key ***"),
    (["openssl", "mac", "-macopt", f"key:{S}", "HMAC"], "openssl mac -macopt key:*** HMAC"),
    ([*f"app -----BEGIN RSA PRIVATE KEY----- {S} {S}= -----END RSA PRIVATE KEY----- x".split()], None),
    (["app", "-----BEGIN PRIVATE KEY-----", S, "-----END PRIVATE KEY-----", "x"], "app *** *** *** x"),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "line"), FOUND)
def test_what_was_found_shown_is_hidden(argv: list[str], line: str | None) -> None:
    """Forms that somebody looked for and found."""
    shown = masked([word.encode() for word in argv])

    assert S not in shown
    assert "***" in shown
    if line is not None:
        assert shown == line


PLAIN = [
    ["sh", "-c", "cd /x\nls -l\tfoo && echo 'it is' \"a $b\" $(date +%s) | cat"],
    ["curl", "-x", "proxy:80", "https://h"],
    ["app", "use_password=yes", "max_tokens=100", "--require-pass=1", "//reg:8080/@scope/x"],
    ["app", '<a href="x" key="n">text</a>', '{"names":["a","b"],"n":{"x":1}}'],
    ["docker", "run", "img:1.2@sha256:" + "4f3c2b1a" * 8],
    ["mount", "-o", "rw,user=u", "x"],
    ["-----BEGIN CERTIFICATE-----", "x"],
]


@pytest.mark.parametrize("argv", PLAIN)
def test_what_only_looks_alike_stays(argv: list[str]) -> None:
    """The same forms with no secret in them."""
    assert "***" not in masked([word.encode() for word in argv])


TOKENS = [
    JWT,
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1B2_" * 9,
    "glpat-" + "a1B2c3D4e5F6g7H8i9J0",
    "xoxb-1234567890-abcdefghij",
    "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "hvs." + "CAESIJ1a2b3c4d5e6f7g8h9i0j",
    "AGE-SECRET-KEY-1" + "QQPQYQ" * 9,
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    base64.b64encode(bytes(range(100, 148))).decode(),
]


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("form", ["app {}", "app --x {}", "app --x={}", "app a,{},b", "sh -c 'app {} | cat'"])
def test_tokens_are_known_by_their_form(token: str, form: str) -> None:
    """Also where nothing says that they are one."""
    shown = masked(words(form.format(token)))

    assert token not in shown
    assert token[4:20] not in shown


READABLE = [
    "mysql -hproduction -u root",
    "openssl rsa -in key.pem -passin file:/etc/pw",
    "openssl s_client -connect example.com:443 -servername example.com -CAfile /etc/ssl/ca.pem",
    "psql postgresql://user@h/db",
    "psql -h db.example.com -p 5432 -U app -d shop",
    "docker run --user 1000:1000 -p 80:80 -v /run/secrets:/run/secrets:ro img",
    "docker run --user=1000:1000 -it debian:12 bash",
    "ansible-playbook --private-key /root/.ssh/id_rsa --ask-become-pass site.yml",
    "ansible-playbook --vault-password-file=/etc/vp site.yml",
    "java -cp /a.jar:/b.jar -Xmx1g -Djavax.net.ssl.keyStore=/x.jks com.example.Main --server.port=8080",
    "git clone git@github.com:a/b.git",
    "git clone ssh://git@github.com/a/b.git",
    "git clone https://github.com/a/b.git",
    "app --no-password --host h",
    "app --token-file /etc/token --tokenizer x --max-tokens 100 --pass-through --bypass-cache",
    "app http://localhost:8080/@scope/pkg http://h:80/?q=1&r=2",
    "python3 -m http.server 8000",
    "ssh -p 22 -i /root/.ssh/id_rsa user@host uptime",
    "/usr/sbin/sshd -D -o AuthorizedKeysFile=.ssh/authorized_keys -o PasswordAuthentication=no",
    "/lib/systemd/systemd --system --deserialize 35",
    "containerd-shim-runc-v2 -namespace moby -id " + "4f3c2b1a" * 8,
    "sort --key=2 -t: /etc/passwd",
    "passwd root",
    "apt-get install -y python3-jwt base-passwd",
    "systemctl stop systemd-ask-password-console.path systemd-ask-password-wall.path",
    "systemd-tmpfiles --create passwd.conf /etc/x",
    "ssh-keygen -q -N '' -f /etc/ssh/k",
    "sudo passwd root",
    "rsync -a --password-file=/etc/rs rsync://u@h/m /x",
    "apt-get install -y password-store",
    "apt-get install pass",
    "certbot certonly --email me@example.com -d example.com",
    "gh auth login --with-token",
    "curl -E client.pem --key client.key https://h",
    "curl -F file=@x.txt -o out -X POST https://h",
    "kube-apiserver --authorization-mode=Node,RBAC --service-account-key-file=/x.pub",
    "kube-apiserver --enable-bootstrap-token-auth=true --tls-private-key-file=/etc/k/pki/a.key",
    "WATCHDOG=1 node --max-old-space-size=4096 server.js",
    "wg set wg0 private-key /etc/wireguard/key peer abc= preshared-key /etc/psk",
    "cryptsetup luksOpen /dev/sda1 x --key-file /etc/keys/x",
    "vault kv get secret/x",
    "docker run --name redis -p 6379:6379 redis:7",
    "bash /opt/app/bin/start.sh --config /etc/app/config.yml",
    "nix-store --realise /nix/store/0c1p4z1r2m8a3v5c7k9x2y4w6u8s0q1i-hello-2.12",
]


@pytest.mark.parametrize("line", READABLE)
def test_what_is_no_secret_stays_readable(line: str) -> None:
    """A line of asterisks tells nobody what was run."""
    assert shlex.split(masked(words(line))) == shlex.split(line)
    assert "***" not in masked(words(line))


# -- any command line ----------------------------------------------------------------------------------------

FORMS = [
    "mysql -p{}", "app --password {}", "app --password={}", "PGPASSWORD={} psql", "curl -u user:{} https://h/",
    "psql postgres://user:{}@h/db", "sshpass -p {} ssh h", "openssl enc -k {}", "redis-cli -a {}",
    "ldapsearch -w {}", "docker login -p {} reg", "java -DtrustStorePassword={}", "htpasswd -b f u {}",
    "sudo env A=b timeout 5 mysql -p{}", "git clone https://u:{}@h/x", "app --secret {} --token {}",
]  # fmt: skip
# What a password may be made of where it is one word for the program that takes it.
PASSWORDS = st.text(
    alphabet=st.characters(
        min_codepoint=33, max_codepoint=0x2FF, exclude_characters="'\"\\", exclude_categories=["Cc"]
    ),
    min_size=6,
    max_size=40,
).map(lambda text: "Zq9" + text)  # fmt: skip


@given(st.sampled_from(FORMS), PASSWORDS)
def test_whatever_a_password_is_made_of_it_is_hidden(form: str, password: str) -> None:
    """Passwords have the characters that mean something elsewhere: `@`, `=`, `,`, `;`, `&`, `/`, `-`."""
    argv = [word.replace("{}", password).encode() for word in form.split()]

    shown = masked(argv)

    assert password not in shown
    assert "Zq9" not in shown


@given(st.sampled_from(FORMS), st.integers(0, 80))
def test_a_line_that_was_cut_shows_no_half_of_a_secret(form: str, at: int) -> None:
    """The kernel half hands over so many bytes of arguments; the cut may be anywhere."""
    whole = b"\0".join(word.replace("{}", "Zq9-f:oo,b@r=baz").encode() for word in form.split()) + b"\0"
    is_cut = at < len(whole)
    argv = whole[:at].split(b"\0") if is_cut else whole[:-1].split(b"\0")

    assert "Zq9" not in masked(argv, is_cut=is_cut)


@given(st.lists(st.binary(max_size=80), max_size=12))
def test_any_words_become_one_line_of_text(argv: list[bytes]) -> None:
    """Whoever starts a program chooses its arguments: no byte of them moves a cursor or ends a line."""
    shown = masked([word.replace(b"\0", b"") for word in argv])

    assert shown.isprintable()
    assert len(shown) <= LINE_CHARS_MAX
    shown.encode()


@given(st.lists(st.text(alphabet="abc /=-'\"$*?&;|<>#é€", min_size=1, max_size=20), min_size=2, max_size=6))
def test_a_shell_takes_the_line_apart_as_it_was(argv: list[str]) -> None:
    """Somebody will paste it."""
    raw = [word.encode() for word in argv]

    assert shlex.split(masked(raw)) == argv


def test_bytes_and_controls_are_written_out() -> None:
    """Escaped as names are everywhere; a newline forges no line of a log, an escape sequence no colour."""
    shown = masked([b"app", b"a\nb", b"\x1b[31m", b"\xff\xfe", "\u202egnp.exe".encode()])

    assert shlex.split(shown) == ["app", "a\\x0ab", "\\x1b[31m", "\\xff\\xfe", "\\xe2\\x80\\xaegnp.exe"]
    assert canonical.unescape_text("a\\x0ab") == b"a\nb"


def test_a_title_is_no_command() -> None:
    """Servers write what they do over their arguments: one word, with blanks in it."""
    assert masked([b"nginx: worker process"]) == "nginx: worker process"
    assert masked([b"sshd: alice [priv]"]) == "sshd: alice [priv]"
    assert masked([b"app --password S3cr3t"]) == "app --password ***"


def test_what_is_too_long_is_left_out_whole() -> None:
    """A cut script might end within a secret; a class path says little."""
    script = b"x" * WORD_BYTES_MAX

    assert masked([b"java", b"-cp", script + b":", b"Main"]) == f"java -cp {CUT} Main"
    assert masked([b"app", script]).startswith("app xxx")
    assert masked([b"app", *[script] * 8]).endswith(CUT)
    many = masked([b"a"] * (WORDS_MAX + 9))
    assert many.split().count("a") == WORDS_MAX
    assert many.endswith(" " + CUT)
    assert masked([]) == ""
    assert masked([b""]) == ""
    assert masked([b"a", b""]) == "a ''"


def test_a_line_that_is_cut_at_last_holds_no_secret_by_then() -> None:
    """Hidden first, cut then; escapes make a line longer than its bytes."""
    argv = [b"app", b"\xff" * (WORD_BYTES_MAX - 1), b"--password", b"S3cr3t" * 40]

    shown = masked(argv)

    assert len(shown) == LINE_CHARS_MAX
    assert shown.endswith(CUT)
    assert S not in shown


@pytest.mark.parametrize(
    "piece",
    ["a=", "a:", '"', "'a ", "http://", "<a>", "\\", "bearer ", "password (",
     "password:[", "<password>", '<a "', "//u:", "u:@", "(`", "- ", "password:\n- ", "a{b[c(d=", " -p", ",a", ";a://x:y"],
)  # fmt: skip
def test_hostile_arguments_end(piece: str) -> None:
    """A process may be started a thousand times a second, by anybody: no pattern steps back for long."""
    word = (piece * WORD_BYTES_MAX)[:WORD_BYTES_MAX].encode()

    assert masked([word] * (ARGV_BYTES_MAX // WORD_BYTES_MAX + 2))
