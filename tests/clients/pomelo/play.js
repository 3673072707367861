// Two players of the demo's world, over pomelo-client-websocket: node play.js ws://HOST:PORT
// What they hear is written as JSON, a line each; the test compares.
'use strict'

const Pomelo = require('pomelo-client-websocket')

// More than fit into one byte of an id, twice.
const CALLS = 300

const [address] = process.argv.slice(2)

function tell(what, value) {
  process.stdout.write(JSON.stringify([what, value]) + '\n')
}

function connect() {
  return new Promise((resolve, reject) => {
    const client = new Pomelo()
    client.on('io-error', () => reject(new Error('no connection')))
    client.initByUrl(address, {}, () => resolve(client))
  })
}

function call(client, route, message) {
  return new Promise((resolve) => client.request(route, message, resolve))
}

function next(client, event) {
  return new Promise((resolve) => client.once(event, resolve))
}

async function main() {
  const ann = await connect()
  const bob = await connect()
  tell('ann logs in', await call(ann, 'login', { name: 'Ann' }))
  tell('bob logs in', await call(bob, 'login', { name: 'Bob' }))
  tell('no such route', (await call(bob, 'nowhere', {})).code)

  const walked = next(bob, 'walked')
  ann.notify('walk', { x: 1.5, y: -2 })
  tell('bob sees', await walked)

  // The push and the answer leave the server in one turn.
  const said = [next(ann, 'said'), next(bob, 'said')]
  tell('ann is answered', await call(ann, 'say', { text: 'Grüße ☀' }))
  tell('both hear', await Promise.all(said))

  const answers = []
  for (let number = 0; number < CALLS; number++) answers.push(call(bob, 'walk', { x: number, y: 0 }))
  tell('answers', (await Promise.all(answers)).length)

  const kicked = next(bob, 'onKick')
  const closed = next(bob, 'close')
  bob.notify('leave', {})
  await kicked
  tell('bob is kicked', (await closed).code)
  ann.on('close', (event) => tell('ann is closed', event.code))
  tell('ann is kept by heartbeats', await heartbeats(ann, 3))
  ann.off('close')
  ann.disconnect()
}

// Resolves when so many have come, the client answering each of them.
function heartbeats(client, count) {
  return new Promise((resolve) => {
    let heard = 0
    const handler = client.handlers[3]
    client.handlers[3] = (data) => {
      handler(data)
      heard += 1
      if (heard === count) resolve(heard)
    }
  })
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
